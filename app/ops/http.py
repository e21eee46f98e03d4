"""/metrics, /live and /ready over HTTP: in, two questions; out, 200 or 503 with the reasons as JSON."""

import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, disable_created_metrics, generate_latest

# A second series for every counter and histogram, of no use to Prometheus.
disable_created_metrics()  # type: ignore[no-untyped-call]

CLOSE_SECONDS = 1.0  # for requests under way; by default aiohttp waits a minute for them

# Each answers what is checked and whether it is well, e.g. {"assigned": True, "database": False}.
Check = Callable[[], Awaitable[Mapping[str, bool]]]
Advice = Callable[[], Mapping[str, str]]


class HealthServer:
    """Serves on `host:port` until stopped; port 0 takes a free one, then found in `port`."""

    def __init__(self, host: str, port: int, live: Check, ready: Check, advice: Advice = dict) -> None:
        """`advice` is shown with /ready: {what is held up: why, and what an operator does about it}."""
        self._host, self.port = host, port
        app = web.Application()
        app.router.add_get("/metrics", _metrics)
        app.router.add_get("/live", _answer(live))
        app.router.add_get("/ready", _answer(ready, advice))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close; safe before start and twice."""
        await self._runner.cleanup()


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(check: Check, advice: Advice = dict) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        checks = dict(await check())
        well = all(checks.values())
        answer: dict[str, object] = {"status": "ok" if well else "not ready", "checks": checks}
        if what := advice():
            answer["advice"] = dict(what)
        body = json.dumps(answer)
        return web.Response(text=body, status=200 if well else 503, content_type="application/json")

    return handle
