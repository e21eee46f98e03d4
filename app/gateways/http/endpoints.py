"""The endpoints of JSON: one message of a device, one of a sensor, and batches; in, a request; out, its answer."""

from typing import cast

from aiohttp import hdrs, web

from app.gateways.http.connection import HttpConnection
from app.gateways.http.events import CURL, Decoded, EventDecoders, media_type, unsupported
from app.gateways.http.problem import NATIVE, Problem
from app.gateways.http.ready_answer import ReadyAnswer
from app.gateways.http.writes import Writes
from app.gateways.telemetry_record import Arrival, node_telemetry, telemetry
from app.ports import Account


class Endpoints:
    """The endpoints of JSON of one gateway. No endpoint raises but for a cancelled task: what is wrong is an answer."""

    def __init__(self, writes: Writes, decoders: EventDecoders) -> None:
        self._writes, self._decoders = writes, decoders

    async def events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer POST /v1/events."""
        decode = self._decoders.of(request.headers.get(hdrs.CONTENT_TYPE))
        if isinstance(decode, Problem):
            return self._writes.refuse(request, NATIVE, decode)
        return await self._writes.take(request, decode, NATIVE)

    async def telemetry(self, request: web.BaseRequest, user: str, device: str) -> web.StreamResponse:
        """Answer POST /v1/users/{user}/devices/{device}/telemetry; the ids are decoded."""

        async def decode(account: Account, payload: bytes, arrival: Arrival) -> Decoded:
            return Decoded([telemetry(account, user, device, payload, arrival)], lambda _: payload)

        if not _is_json(request):
            return self._writes.refuse(request, NATIVE, _no_json(request))
        answer = await self._writes.take(request, decode, NATIVE)
        if isinstance(answer, ReadyAnswer):  # it was accepted
            cast(HttpConnection, request.protocol).heads.learn(request, telemetry, user, device)
        return answer

    async def node_telemetry(self, request: web.BaseRequest, node: str, sensor: str) -> web.StreamResponse:
        """Answer POST /v1/nodes/{node}/sensors/{sensor}/telemetry; the ids are decoded."""

        async def decode(account: Account, payload: bytes, arrival: Arrival) -> Decoded:
            return Decoded([node_telemetry(account, node, sensor, payload, arrival)], lambda _: payload)

        if not _is_json(request):
            return self._writes.refuse(request, NATIVE, _no_json(request))
        answer = await self._writes.take(request, decode, NATIVE)
        if isinstance(answer, ReadyAnswer):  # it was accepted
            cast(HttpConnection, request.protocol).heads.learn(request, node_telemetry, node, sensor)
        return answer


def _is_json(request: web.BaseRequest) -> bool:
    return media_type(request.headers.get(hdrs.CONTENT_TYPE)) in ("application/json", CURL, "")


def _no_json(request: web.BaseRequest) -> Problem:
    return unsupported(request.headers.get(hdrs.CONTENT_TYPE), "application/json")
