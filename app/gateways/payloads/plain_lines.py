"""Lines of JSON -> a block of records, where all of them are plain; a typed decode and one short step for each line.

Plain are nearly all: flat or nearly so, ASCII, with a device, a number and a time, of devices that the account may
speak for. What is not plain, one line of many, is for telemetry_record.items, which says what of each is wrong.
"""

from collections.abc import Sequence
from typing import cast

import msgspec
from msgspec import Struct

from app.gateways.blocks.place import Place
from app.gateways.blocks.record_block import RecordBlock
from app.gateways.payloads.look import REFUSED, Int64, Time, plain
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import KIND, USERS, Arrival, Rejection, items, own_places, place_of
from app.ports import Account


class PlainFields(Struct, gc=False):
    """As payloads.look.Seen, of a payload that is good."""

    device_id: str
    sequence_id: Int64
    user_id: str | None = None
    timestamp: Time = None
    time: Time = None
    node_id: None = None
    sensor_id: None = None
    traceparent: None = None


_decode = msgspec.json.Decoder(PlainFields).decode


def records_of(account: Account, lines: Sequence[bytes], arrival: Arrival) -> Sequence[IngestRecord | Rejection]:
    """The record of each line, or why the line is refused (telemetry_record.items); all as a block where all are
    plain. Never raises.
    """
    block = _block(account, lines, arrival)
    return items(account, lines, arrival) if block is None else block


def _block(account: Account, lines: Sequence[bytes], arrival: Arrival) -> RecordBlock | None:
    whole, most = b"".join(lines), arrival.max_bytes
    if arrival.traceparent is not None or b"\\" in whole or not whole.isascii():
        return None
    if len(whole) > most and max(map(len, lines)) > most:
        return None
    try:
        found = list(map(_decode, lines))
    except REFUSED:
        return None
    # Each of them is an object, so that with one brace for each none has another in it. `count` takes twice as long.
    braces = len(whole) - len(whole.replace(b"{", b""))
    if (braces > len(lines) or b"[" in whole) and not all(map(plain, lines)):
        return None
    places = _places(account, found)
    if places is None or len(places) != len(lines):
        return None
    return RecordBlock(places, lines, [KIND, *arrival.last], arrival.ingest_ms, len(whole))


def _places(account: Account, found: Sequence[PlainFields]) -> list[Place] | None:
    """Where the records go of those that have a time and are the account's; None where one may not, or has no good
    id.
    """
    known, user = own_places(account), account.user_id
    try:
        return [
            known[one.device_id]
            for one in found
            if (one.user_id is None or one.user_id == user) and (one.timestamp is not None or one.time is not None)
        ]
    except KeyError:
        places = [known.get(one.device_id) or place_of(account, USERS, user, one.device_id) for one in found]
    fit = all(one.user_id in (None, user) and (one.timestamp is not None or one.time is not None) for one in found)
    return cast("list[Place]", places) if fit and Rejection not in map(type, places) else None
