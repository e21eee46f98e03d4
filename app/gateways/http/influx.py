"""Line protocol in, as InfluxDB's clients send it: POST /api/v2/write and /write, and what they ask before they do.

    /api/v2/write   of version 2: errors {"code", "message"}; org and bucket are not looked at
    /write          of version 1: errors {"error"}; db and rp are not looked at
    /ping           whether somebody is there
    /query          of version 1: CREATE DATABASE does nothing, and nothing else is served

Where a line is refused the others are taken, and the answer is InfluxDB's for that: 400 and "partial write".
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from app.core.decode.influx_line import PRECISIONS
from app.gateways.http.body import IncomingBody
from app.gateways.http.connection import HttpConnection
from app.gateways.http.events import Decoded, Item
from app.gateways.http.problem import JSON, Dialect, Problem, RejectedItem, after, response
from app.gateways.http.ready_answer import AnswerHead, ReadyAnswer
from app.gateways.http.writes import Writes
from app.gateways.influx_lines import InfluxReader, slices
from app.gateways.payloads.influx_heads import InfluxNames
from app.gateways.protobuf_batches import TOO_MANY_ITEMS
from app.gateways.room import Room
from app.gateways.telemetry_record import Arrival
from app.ports import Account
from app.runtime.version import VERSION

QUERY_BYTES = 8 << 10
_VERSION = (("X-Influxdb-Version", f"iot-stream-{VERSION}"), ("X-Influxdb-Build", "iot-stream"))
_CODES = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request too large",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
_WRITTEN = AnswerHead(HTTPStatus.NO_CONTENT, _VERSION)
_encode = msgspec.json.Encoder().encode


class InfluxDialect:
    """The answers of one version of InfluxDB."""

    def __init__(self, version: int) -> None:
        self._version = version

    def accepted(self, count: int, rejected: Sequence[RejectedItem], retry_after: float | None) -> web.StreamResponse:
        """204; where lines were refused, 400, or 429 where their sender should try them again."""
        if not rejected:
            return ReadyAnswer(_WRITTEN)
        first = rejected[0]
        detail = f"partial write: line {first.index + 1}: {first.error} dropped={len(rejected)}"
        status = HTTPStatus.BAD_REQUEST if retry_after is None else HTTPStatus.TOO_MANY_REQUESTS
        return self.refused(Problem(status, first.reason, detail, retry_after))

    def refused(self, problem: Problem, rejected: Sequence[RejectedItem] = ()) -> web.Response:
        """The answer with an error in this version's words."""
        if self._version == 1:
            content = _encode({"error": problem.detail})
        else:
            content = _encode({"code": _CODES.get(problem.status, "invalid"), "message": problem.detail})
        return response(problem.status, content, JSON, (*_VERSION, *problem.headers, *after(problem.retry_after)))


V1, V2 = InfluxDialect(1), InfluxDialect(2)


class InfluxWrites:
    """The endpoints of InfluxDB. None raises but for a cancelled task."""

    def __init__(self, writes: Writes, names: InfluxNames) -> None:
        self._writes, self._names = writes, names

    async def v2(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer POST /api/v2/write."""
        return await self._write(request, V2)

    async def v1(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer POST /write."""
        return await self._write(request, V1)

    async def ping(self, _: web.BaseRequest) -> web.StreamResponse:
        """Answer GET /ping with 204."""
        return ReadyAnswer(_WRITTEN)

    async def query(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer GET and POST /query: clients that create their database first are answered that it exists; all else
        is refused.
        """
        connection = request.protocol
        assert isinstance(connection, HttpConnection)
        asked = request.query.get("q")
        if asked is None:
            incoming = IncomingBody(request, connection, Room(2 * QUERY_BYTES), b"")
            sent = await incoming.read(QUERY_BYTES, self._writes.bounds.body_seconds)
            if isinstance(sent, Problem):
                return V1.refused(sent)
            asked = "".join(parse_qs(sent.decode("utf-8", "replace")).get("q", []))
        if asked.strip().upper().startswith("CREATE DATABASE"):
            return response(HTTPStatus.OK, b'{"results":[{"statement_id":0}]}', JSON, _VERSION)
        detail = "only writes are served here; what was written is in PostgreSQL"
        return V1.refused(Problem(HTTPStatus.BAD_REQUEST, "no_queries", detail))

    async def _write(self, request: web.BaseRequest, dialect: Dialect) -> web.StreamResponse:
        said = request.query.get("precision") or "ns"
        precision = PRECISIONS.get(said)
        if precision is None:
            return self._writes.refuse(request, dialect, _bad_precision(said))
        most = self._writes.bounds.items

        async def decode(account: Account, lines: bytes, arrival: Arrival) -> Decoded | Problem:
            return await _decoded(lines, InfluxReader(precision, self._names, account, arrival), most)

        return await self._writes.take(request, decode, dialect, influx=True)


async def _decoded(lines: bytes, reader: InfluxReader, most: int) -> Decoded | Problem:
    if lines.count(b"\n") > 2 * most:
        return _too_many(most)
    items: list[Item] = []
    for part in slices(lines, reader):
        items += part
        if len(items) > most:
            return _too_many(most)
        await asyncio.sleep(0)

    @cache
    def said() -> list[bytes]:
        """The line of each item, as far as none holds a line end in a text; they are for dead letters."""
        return [line for line in lines.split(b"\n") if line.strip() and not line.lstrip().startswith(b"#")]

    return Decoded(items, lambda place: said()[min(place, len(said()) - 1)])


def _too_many(most: int) -> Problem:
    detail = f"the body has more than {most} lines: send smaller batches"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_MANY_ITEMS, detail)


def _bad_precision(said: str) -> Problem:
    detail = f"precision {said[:20]!r} is none: send one of {', '.join(PRECISIONS)}"
    return Problem(HTTPStatus.BAD_REQUEST, "bad_precision", detail)
