"""Pages to read beside the way in: /live, /ready, /health, /metrics and /openapi.json.

Who may reach the gateway may ask whether it lives; names of users are in the metrics, and are for this machine alone.
Everybody else finds both at the metrics port (IOT_METRICS_HOST).
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.gateways.http.problem import JSON, NATIVE, Problem, response
from app.gateways.intake import Intake
from app.runtime.addresses import is_loopback
from app.runtime.version import VERSION

_encode = msgspec.json.Encoder().encode
_ELSEWHERE = Problem(
    HTTPStatus.FORBIDDEN, "not_from_here", "this page is for the gateway's own machine: ask the gateway's metrics port"
)


class Pages:
    """The pages of one gateway."""

    def __init__(
        self, intake: Intake, ready: Callable[[], Mapping[str, bool]], peer: Callable[[web.BaseRequest], str]
    ) -> None:
        """`ready` has the checks of /ready, `peer` the address that a request comes from."""
        self._intake, self._ready, self._peer = intake, ready, peer
        self._began = time.monotonic()
        self.document = b""  # of OpenAPI

    async def live(self, _: web.BaseRequest) -> web.Response:
        """Answer 200 while the process runs."""
        return _checked({"running": True})

    async def ready(self, _: web.BaseRequest) -> web.Response:
        """Answer whether to send work here, with each check: 200, or 503 when not."""
        return _checked(self._checks())

    async def health(self, request: web.BaseRequest) -> web.Response:
        """Answer how the gateway does, in the form of every program's page (docs/operations.md); 403 to others than
        this machine.
        """
        if not is_loopback(self._peer(request)):
            return NATIVE.refused(_ELSEWHERE)
        checks = self._checks()
        last, mean = self._intake.flushes.last, self._intake.flushes.mean_seconds
        page = {
            "status": "ok" if all(checks.values()) else "not ready",
            "program": "http",
            "version": VERSION,
            "uptime_seconds": round(time.monotonic() - self._began, 1),
            "queue_depth": self._intake.queue_depth,
            "last_flush": last and {"at": _iso(last.at), "rows": last.rows, "seconds": round(last.seconds, 6)},
            "mean_flush_seconds": mean and round(mean, 6),
            "kafka": self._intake.answered,
            "checks": checks,
        }
        return response(HTTPStatus.OK, _encode(page), JSON)

    async def metrics(self, request: web.BaseRequest) -> web.Response:
        """Answer with the metrics of this process; 403 to others than this machine."""
        if not is_loopback(self._peer(request)):
            return NATIVE.refused(_ELSEWHERE)
        return response(HTTPStatus.OK, generate_latest(), CONTENT_TYPE_LATEST)

    async def openapi(self, _: web.BaseRequest) -> web.Response:
        """Answer what this gateway serves, for machines."""
        return response(HTTPStatus.OK, self.document, JSON)

    def _checks(self) -> dict[str, bool]:
        return {"kafka": self._intake.available, **self._ready()}


def _checked(checks: Mapping[str, bool]) -> web.Response:
    well = all(checks.values())
    answer = {"status": "ok" if well else "not ready", "checks": checks}
    return response(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, _encode(answer), JSON)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
