"""The limit of a worker's device states (app.core.processing.device_limit): settings in; out, metrics, and the log."""

import time
from collections.abc import Callable

import structlog

from app.core.ingress.heavy_hitters import HeavyHitters
from app.core.model.namespaces import user_of
from app.core.processing.cached_device import Name
from app.core.processing.device_limit import WORKER, DeviceLimit
from app.ops import metrics
from app.settings import Settings
from app.sinks.cardinality.sketch import SeriesSketch

log = structlog.get_logger()

WARN_SECONDS = 60.0
TOP = 20


class DeviceStates:
    """The limit of one worker, and who is over it."""

    def __init__(self, of_worker: int, of_tenant: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only go forward."""
        self.limit = DeviceLimit(of_worker, of_tenant, self._over)
        self._most, self._of_tenant, self._clock = of_worker, of_tenant, clock
        self._sketch, self._offenders = SeriesSketch(), HeavyHitters()
        self._warned_at, self._since = float("-inf"), 0

    @classmethod
    def of(cls, settings: Settings) -> "DeviceStates | None":
        """Those that the settings describe; None when they set no limit."""
        of_worker, of_tenant = settings.device_states_max, settings.device_states_tenant_max
        return cls(of_worker, of_tenant) if of_worker or of_tenant else None

    def show(self) -> None:
        """Set the gauges to what is so now."""
        metrics.DEVICE_STATES.set(self.limit.count)
        metrics.DEVICES_OVER.set(self._sketch.estimate)
        metrics.TOP_DEVICE_STATES.clear()
        for user, count in sorted(self.limit.of_users.items(), key=lambda one: -one[1])[:TOP]:
            metrics.TOP_DEVICE_STATES.labels(user).set(count)

    def _over(self, name: Name, limit: str) -> None:
        user = user_of(name[0])
        self._sketch.add(user, f"{name[0]}/{name[1]}", "")
        self._offenders.add(user, 1)
        self._since += 1
        metrics.DEVICES_TURNED_AWAY.labels(limit).inc()
        if self._clock() - self._warned_at < WARN_SECONDS:
            return
        log.warning(
            "Cardinality limit exceeded",
            limit=f"{limit}: {self._most if limit == WORKER else self._of_tenant}",
            user=self._offenders.top(1)[0][0],
            device=name[1],
            devices=self._since,
            outcome="stored, and no rule looks at them",
            cure="fewer devices, or a higher IOT_DEVICE_STATES_MAX or _TENANT_MAX",
        )
        self._warned_at, self._since = self._clock(), 0
