"""What a program is, and how it does: in, its parts; out, iot_build_info and the JSON of /health."""

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from prometheus_client import Gauge

from app.runtime.flushes import Flushes
from app.runtime.last_error import LAST_ERROR
from app.runtime.version import VERSION

BUILD_INFO = Gauge(
    "iot_build_info",
    "Always 1; its labels are the version, the fleet (IOT_APP) and the program: worker, bridge, notifier",
    ["version", "app", "program"],
)
SERVERS = ("kafka", "database", "mqtt")

# Each answers what is checked and whether it is well, e.g. {"assigned": True, "database": False}.
Check = Callable[[], Awaitable[Mapping[str, bool]]]


class About:
    """What one process says of itself; every program, gateway and sink presents itself by an About."""

    def __init__(
        self,
        program: str,
        app: str,
        ready: Check,
        queue_depth: Callable[[], int],
        flushes: Flushes,
        connected: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        """`ready` has a check for each server that the program speaks to, by its name; `connected` adds servers
        without a check. `app` is the fleet (IOT_APP), `queue_depth` the messages that are taken and not yet handed on.
        Sets iot_build_info.
        """
        self._program, self._app, self._ready = program, app, ready
        self._queue_depth, self._flushes, self._connected = queue_depth, flushes, connected
        self._began = time.monotonic()
        BUILD_INFO.labels(VERSION, app, program).set(1)

    async def health(self) -> Mapping[str, object]:
        """The JSON object of /health, for people and for machines that show it; whether to send work here says /ready.

        Times are seconds or ISO 8601 in UTC; null stands for a server that the program does not speak to, and for a
        flush or an error that has not been. Raises what the checks raise.
        """
        checks = dict(await self._ready())
        servers = {**checks, **self._connected()}
        last, mean = self._flushes.last, self._flushes.mean_seconds
        return {
            "status": "ok" if all(checks.values()) else "not ready",
            "program": self._program,
            "app": self._app,
            "version": VERSION,
            "uptime_seconds": round(time.monotonic() - self._began, 1),
            "queue_depth": self._queue_depth(),
            "last_flush": last and {"at": _iso(last.at), "rows": last.rows, "seconds": round(last.seconds, 6)},
            "mean_flush_seconds": mean and round(mean, 6),
            **{name: servers.get(name) for name in SERVERS},
            "last_error": LAST_ERROR.shown,
            "checks": checks,
        }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
