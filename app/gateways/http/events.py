"""The body of POST /v1/events -> its items, each its record or why it is refused, by content type; never raises.

    application/json          an array of objects, or one object
    application/x-ndjson      an object a line
    application/x-protobuf    an EventBatch of proto/events.proto

The payload of a record is an object as it was sent, byte for byte.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, lru_cache
from http import HTTPStatus
from itertools import chain
from typing import NamedTuple

import msgspec

from app.core.model.records import Reason
from app.gateways.blocks.record_block import merged
from app.gateways.http.problem import Problem
from app.gateways.payloads.plain_lines import records_of
from app.gateways.protobuf_batches import TOO_MANY_ITEMS, MalformedBatch
from app.gateways.protobuf_records import events
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account
from app.protobuf.events_pb2 import Event, EventBatch

# Of a JSON array the number of values is known only once it is parsed, and then they are all in memory: 75 bytes each,
# of two that were sent. Nobody's batch has so many commas for each item that is allowed.
COMMAS = 20
SLICE = 500  # events: half a millisecond, or 10 of the worst

Item = IngestRecord | Rejection


class Decoded(NamedTuple):
    """The items of a body, in order, and how to get at the bytes of one of them."""

    items: Sequence[Item]
    raw: Callable[[int], bytes]


Decode = Callable[[Account, bytes, Arrival], Awaitable[Decoded | Problem]]

_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class EventDecoders:
    """Decoders of bodies with at most so many items."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._by_type: dict[str, Decode] = {
            "": self.json,  # nothing is said of it
            "application/json": self.json,
            CURL: self.json,
            **dict.fromkeys(NDJSON, self.ndjson),
            **dict.fromkeys(PROTOBUF, self.protobuf),
        }

    def of(self, content_type: str | None) -> Decode | Problem:
        """The decoder for a header Content-Type (None: there is none), or why there is none."""
        media = media_type(content_type)
        return self._by_type.get(media) or unsupported(content_type, "JSON, application/x-ndjson or x-protobuf")

    async def json(self, account: Account, body: bytes, arrival: Arrival) -> Decoded | Problem:
        """The items of an array, or of one object; or why the body is refused as a whole."""
        start = body[:64].lstrip(b" \t\r\n")[:1]
        if start == b"[":
            if body.count(b",") > COMMAS * self._max_items:
                return self._too_many()
            try:
                lines = [bytes(raw) for raw in _array(body)]
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                return bad_json(error)
        elif start == b"{":
            lines = [body]
        else:
            detail = "the body is empty" if not body.strip() else "the body is no JSON array of objects, and no object"
            return Problem(HTTPStatus.BAD_REQUEST, Reason.NOT_AN_OBJECT.value, detail)
        return await self._of(lines, account, arrival)

    async def ndjson(self, account: Account, body: bytes, arrival: Arrival) -> Decoded | Problem:
        """The items of lines; empty ones are passed over. Or why the body is refused as a whole."""
        if body.count(b"\n") > 2 * self._max_items:
            return self._too_many()
        lines = body.split(b"\n")
        if b"\r" in body:
            lines = [line.rstrip(b"\r") for line in lines]
        if not lines[-1]:
            lines.pop()
        if b"" in lines:
            lines = [line for line in lines if line]
        return await self._of(lines, account, arrival)

    async def protobuf(self, account: Account, body: bytes, arrival: Arrival) -> Decoded | Problem:
        """The items of an EventBatch, or why the body is refused as a whole."""
        try:
            _, found = events(account, body, arrival, self._max_items)
        except MalformedBatch as error:
            large = error.reason == TOO_MANY_ITEMS
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if large else HTTPStatus.BAD_REQUEST
            return Problem(status, error.reason, str(error))

        @cache  # parsed again once, and not for each item that somebody wants to see
        def parsed() -> Sequence[Event]:
            return EventBatch.FromString(body).events

        return Decoded(found, lambda place: parsed()[place].SerializeToString())

    async def _of(self, lines: list[bytes], account: Account, arrival: Arrival) -> Decoded | Problem:
        if len(lines) > self._max_items:
            return self._too_many()
        if len(lines) <= SLICE:
            return Decoded(records_of(account, lines, arrival), lines.__getitem__)
        found: list[Sequence[Item]] = []
        for start in range(0, len(lines), SLICE):
            found.append(records_of(account, lines[start : start + SLICE], arrival))
            await asyncio.sleep(0)  # others have their turn
        return Decoded(merged(found) or list(chain.from_iterable(found)), lines.__getitem__)

    def _too_many(self) -> Problem:
        detail = f"the body has more than {self._max_items} items: send smaller batches"
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_MANY_ITEMS, detail)


CURL = "application/x-www-form-urlencoded"  # what `curl -d` sends with any body unless -H names another
NDJSON = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-lines",
)
PROTOBUF = ("application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf")


@lru_cache(64)
def media_type(content_type: str | None) -> str:
    """The media type of a Content-Type, without its parameters, in small letters; "" where there is none."""
    return content_type.partition(";")[0].strip().lower() if content_type else ""


def unsupported(content_type: str | None, wanted: str) -> Problem:
    """The problem of a content type that is not taken; `wanted` says which are."""
    detail = f"Content-Type {(content_type or '')[:60]!r} is not taken here: send {wanted}"
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_type", detail)


def bad_json(error: Exception) -> Problem:
    """The problem of a body that is no JSON; it quotes nothing of it."""
    why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
    return Problem(HTTPStatus.BAD_REQUEST, Reason.BAD_JSON.value, f"the body is no JSON: {why}")
