"""The configured sinks: IOT_SINKS and the tables [sinks.NAME] in; instances with their settings out."""

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from msgspec import Struct
from pydantic import ValidationError

from app.errors import PermanentError, SettingsError
from app.settings import Settings
from app.settings.process import metrics_port
from app.settings.sources import toml_content, toml_file
from app.sinks.port import Sink

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")  # part of a consumer group and of a topic


class SinkKind(NamedTuple):
    """A kind of sink: its class, and the prefix of its settings."""

    module: str  # of app.sinks
    class_name: str  # the class in that module
    prefix: str  # of its settings, without IOT_
    extra: str  # of the package, with the dependencies of the module


KINDS: Mapping[str, SinkKind] = {
    "parquet": SinkKind("parquet.sink", "ParquetSink", "parquet", "sinks"),
    "influx": SinkKind("influx.sink", "InfluxSink", "influx", "sinks"),
    "redis": SinkKind("redis.sink", "RedisSink", "redis", "sinks"),
    "http_feed": SinkKind("feed.sink", "FeedSink", "feed", "sinks"),
    "grpc": SinkKind("grpc_push.sink", "GrpcPushSink", "grpc_push", "gateways"),
}


class SinkInstance(Struct, frozen=True):
    """One configured sink."""

    name: str
    kind: str  # of KINDS
    settings: Settings  # merged with its table

    @property
    def metrics_port(self) -> int:
        """The configured port of /metrics, else the port of the kind."""
        return metrics_port(self.settings, f"sink-{self.kind}")


def sink_tables() -> Mapping[str, Any]:
    """The tables [sinks.NAME] of the TOML file, as written. Raises SettingsError when the file is not TOML."""
    found = toml_content().get("sinks")
    return found if isinstance(found, dict) else {}


def instances(settings: Settings, names: Sequence[str] = ()) -> list[SinkInstance]:
    """The sinks of these names, or of IOT_SINKS, or of all tables: each once, in this order.

    Raises SettingsError that lists every mistake.
    """
    tables, wrong, found = sink_tables(), list[str](), list[SinkInstance]()
    for name in dict.fromkeys(names or settings.sinks or tables):
        if name in tables:
            made = _of_table(name, tables[name], settings)
        elif name in KINDS:
            made = SinkInstance(name, name, settings)
        else:
            known = ", ".join(dict.fromkeys((*KINDS, *tables)))
            made = [f"there is no sink {name!r}: kinds and tables [sinks.NAME] are {known}"]
        if isinstance(made, SinkInstance):
            found.append(made)
        else:
            wrong += made
    if wrong:
        raise SettingsError("\n  ".join(["wrong settings:", *wrong]))
    return found


def build_sink(instance: SinkInstance) -> Sink:
    """The sink, not connected yet. Raises PermanentError when a package is not installed, and SinkMisconfigured as the
    constructor of the sink does.
    """
    of = KINDS[instance.kind]
    try:
        module = importlib.import_module(f"app.sinks.{of.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("app."):
            raise
        install = f"pip install 'iot-stream[{of.extra}]'"
        raise PermanentError(f"the sink {instance.name} needs the package {error.name}: {install}") from None
    made: Sink = getattr(module, of.class_name)(instance.name, instance.settings)
    return made


def _of_table(name: str, table: Any, settings: Settings) -> SinkInstance | list[str]:
    """The instance of a table, or a line for each mistake in the table."""
    place = f"[sinks.{name}] ({toml_file()})"
    if not isinstance(table, dict):
        return [f"sinks.{name}: is no table; write [sinks.{name}] and its settings below"]
    kind = table.get("kind", name)
    if kind not in KINDS:
        return [f"{place}: kind is {kind!r}; kinds are {', '.join(KINDS)}"]
    if not _NAME.fullmatch(name):
        return [f"{place}: a name is 1 to 40 small letters, digits and -"]
    fields: dict[str, str] = {}  # of Settings -> its key in the table
    unknown = list[str]()
    for key in table:
        if key != "kind":
            field = _field(key, KINDS[kind].prefix)
            if field is None:
                unknown.append(f"{place}: {key}: no setting of {kind} has this name{_nearest(key, KINDS[kind].prefix)}")
            else:
                fields[field] = key
    if unknown:
        return unknown
    given = {field: getattr(settings, field) for field in settings.model_fields_set}
    try:
        made = Settings(**{**given, **{field: table[key] for field, key in fields.items()}})
    except ValidationError as error:
        return list(_lines(error, place, fields))
    return SinkInstance(name, kind, made)


def _field(key: str, prefix: str) -> str | None:
    """The setting of the key of a table: of the kind, of every sink, or of every program."""
    for field in (f"{prefix}_{key}", f"sink_{key}", key):
        if field in Settings.model_fields and (field != key or key in ("metrics_port", "metrics_host")):
            return field
    return None


def _nearest(key: str, prefix: str) -> str:
    known = [
        field.removeprefix(f"{start}_") for start in (prefix, "sink") for field in Settings.model_fields
        if field.startswith(f"{start}_")
    ]  # fmt: skip
    found = get_close_matches(key, known, 1, 0.7)
    return f"; did you mean {found[0]}?" if found else f"; they are {', '.join(sorted(known))}"


def _lines(error: ValidationError, place: str, fields: Mapping[str, str]) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(problem["loc"][0])
        yield f"{place}: {fields.get(field, field)}: {problem['msg'].removeprefix('Value error, ')}"
