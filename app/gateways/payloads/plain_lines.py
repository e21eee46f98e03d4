"""Plain lines of JSON -> a block of records, with a typed decode and one short step for each line.

A plain line is ASCII with few levels, and has a device that the account may send for, a sequence_id and a time. Nearly
all lines are plain. Lines among which one is not plain go to telemetry_record.items, which finds each line's fault.
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
    """The fields of payloads.look.Seen for a good payload."""

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
    """The record of each line, or the rejection of a refused line (telemetry_record.items); a block where all lines are
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
    # Each line is an object, so with one brace per line no object is nested. `count` takes twice as long.
    braces = len(whole) - len(whole.replace(b"{", b""))
    if (braces > len(lines) or b"[" in whole) and not all(map(plain, lines)):
        return None
    places = _places(account, found)
    if places is None or len(places) != len(lines):
        return None
    return RecordBlock(places, lines, [KIND, *arrival.last], arrival.ingest_ms, len(whole))


def _places(account: Account, found: Sequence[PlainFields]) -> list[Place] | None:
    """The places of the readings with a time and the account's user; None where the account may not send for a device
    or an id is bad.
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
