"""Method and path of a request -> who answers it; ids of a path are taken apart before anything in them is decoded."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import unquote

from aiohttp import hdrs, web

from app.core.model.fault import printable
from app.core.model.records import Reason
from app.gateways.gateway_metrics import REJECTED
from app.gateways.http.problem import NATIVE, Problem

Endpoint = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
DeviceEndpoint = Callable[[web.BaseRequest, str, str], Awaitable[web.StreamResponse]]  # and the two ids of its path

_GET = (hdrs.METH_GET, hdrs.METH_HEAD)
_USERS, _NODES = "/v1/users/", "/v1/nodes/"


class Router:
    """The endpoints of one gateway."""

    def __init__(
        self,
        pages: Mapping[str, Endpoint],
        writes: Mapping[str, Endpoint],
        telemetry: DeviceEndpoint,
        node_telemetry: DeviceEndpoint,
    ) -> None:
        """`pages` are got, `writes` posted; the last two are those of paths with ids."""
        self._fixed: dict[str, dict[str, Endpoint]] = {path: dict.fromkeys(_GET, page) for path, page in pages.items()}
        for path, write in writes.items():
            self._fixed.setdefault(path, {})[hdrs.METH_POST] = write
        self._telemetry, self._node_telemetry = telemetry, node_telemetry

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request, from the endpoint of its method and path; 404 and 405 where there is none."""
        raw = request.raw_path
        path = raw.partition("?")[0] if raw[:1] == "/" else request.rel_url.raw_path
        if path.startswith(_USERS):
            return await self._of_device(request, path, self._telemetry, "devices")
        if path.startswith(_NODES):
            return await self._of_device(request, path, self._node_telemetry, "sensors")
        methods = self._fixed.get(path)
        if methods is None:
            return refused(request, _no_such(path))
        endpoint = methods.get(request.method)
        if endpoint is None:
            return refused(request, _not_allowed(methods))
        return await endpoint(request)

    async def _of_device(
        self, request: web.BaseRequest, path: str, endpoint: DeviceEndpoint, between: str
    ) -> web.StreamResponse:
        levels = path.split("/")
        if len(levels) != 7 or levels[4] != between or levels[6] != "telemetry":
            return refused(request, _no_such(path))
        if request.method != hdrs.METH_POST:
            return refused(request, _not_allowed((hdrs.METH_POST,)))
        owner, device = levels[3], levels[5]
        if "%" in path or not path.isascii():
            try:
                owner, device = unquote(owner, errors="strict"), unquote(device, errors="strict")
                _ = (owner + device).encode()
            except UnicodeError:
                return refused(request, _BAD_ID)
        return await endpoint(request, owner, device)


def refused(request: web.BaseRequest, problem: Problem) -> web.StreamResponse:
    """The answer to a request that nobody takes; counts it by its reason. The connection ends where a body is still to
    come.
    """
    REJECTED.labels("http", problem.reason).inc()
    answer = NATIVE.refused(problem)
    if not request.content.is_eof() or request.method == hdrs.METH_CONNECT:
        answer.force_close()
    return answer


def _no_such(path: str) -> Problem:
    detail = f"there is no {printable(path.encode('utf-8', 'replace').decode(), 80)}; /openapi.json has what there is"
    return Problem(HTTPStatus.NOT_FOUND, "not_found", detail)


def _not_allowed(methods: "Mapping[str, Endpoint] | tuple[str, ...]") -> Problem:
    allowed = ", ".join(methods)
    return Problem(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"send {allowed}", headers=((hdrs.ALLOW, allowed),)
    )


_BAD_ID = Problem(HTTPStatus.BAD_REQUEST, Reason.BAD_ID.value, "an id of the path is no UTF-8, percent-encoded")
