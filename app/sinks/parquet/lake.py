"""The lake of the settings: the store of its files, their layout, and its owner."""

from pathlib import Path

import msgspec
from msgspec import Struct

from app.settings import Settings
from app.sinks.parquet.claim import restore_claims
from app.sinks.parquet.columns import FileLayout
from app.sinks.parquet.local_store import LocalStore
from app.sinks.parquet.names import CLAIMS
from app.sinks.parquet.s3_store import s3_store
from app.sinks.parquet.stored import LakeStore
from app.sinks.port import SinkMisconfigured

_OWNER = f"{CLAIMS}/sink.json"


class _Owner(Struct):
    sink: str


def lake_of(settings: Settings) -> tuple[LakeStore, FileLayout]:
    """The store and the layout; connects to nothing. Raises SinkMisconfigured."""
    place = settings.parquet_dir
    store: LakeStore = (
        s3_store(settings) if place.startswith("s3://") else LocalStore(Path(place).expanduser().absolute())
    )
    return store, FileLayout(settings.telemetry_schema, settings.parquet_compression, settings.parquet_encodings)


def own(store: LakeStore, sink: str) -> None:
    """Make the sink `sink` the owner of the lake: sinks with different filters must not share claims. A lake without an
    owner may have files without claims.

    Raises SinkMisconfigured when another sink owns the lake, and OSError.
    """
    if store.read(_OWNER) is None:
        restore_claims(store)  # before there is an owner: a process that is killed here does it again
    if not store.put_new(_OWNER, msgspec.json.encode(_Owner(sink))):
        see_owner(store, sink)


def see_owner(store: LakeStore, sink: str) -> None:
    """Return when the lake has no owner or is owned by the sink `sink`. Raises SinkMisconfigured, OSError."""
    found = store.read(_OWNER)
    if found is None:
        return
    try:
        owner = msgspec.json.decode(found, type=_Owner).sink
    except msgspec.MsgspecError as error:
        raise SinkMisconfigured(f"IOT_PARQUET_DIR: {_OWNER} names no owner: {error}") from error
    if owner != sink:
        raise SinkMisconfigured(f"IOT_PARQUET_DIR: the sink {owner} writes there; give {sink} a directory of its own")
