"""A ledger, and devices without a broker, for the tests of the load tester."""

from typing import Any

from app.loadtest.device import LoadDevice
from app.loadtest.findings import Findings, LoadLedger
from app.loadtest.latencies import Latencies
from app.loadtest.plan import LoadPlan
from app.loadtest.schedule import Profile, Schedule
from app.loadtest.tracers import Tracer
from app.loadtest.traffic import Traffic
from app.runtime.tracing.tracing import NO_TRACING

START_US = 1_795_226_400_000_000


def plan(users: int = 1, of_each: int = 1, rate: float = 10, seconds: float = 100) -> LoadPlan:
    return LoadPlan("ab12cd", users, of_each, Schedule(Profile.STEADY, rate, seconds), start_us=START_US)


class DeviceWorld:
    """One device, its clock, and the bytes it has written."""

    def __init__(self, ratio: float = 0.0, rate: float = 10) -> None:
        self.plan, self.traffic, self.now = plan(rate=rate), Traffic(), 0.0
        self.device = LoadDevice(self.plan, 0, self.traffic, Tracer(self.plan, NO_TRACING, ratio), lambda: self.now)
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def due(self, count: int) -> None:
        """So many readings more become due."""
        for _ in range(count):
            due = self.plan.schedule.due(self.device.due)
            self.now = max(self.now, due)
            self.device.reading_due(due)


def ledger(findings: Findings | None = None, **more: Any) -> LoadLedger:
    """One of a run that went well, except for `more`."""
    times = Latencies()
    for step in range(1, 100):
        times.add(0.001 * step)
    values: dict[str, Any] = {
        "profile": "steady", "users": 30, "devices": 90, "rate": 200.0, "wanted": 12_000, "seconds": 60.0,
        "sent": 12_000, "acked": 12_000, "unanswered": 0, "refused": {}, "nobody": 0, "resent": 0, "reconnects": 0,
        "cut": 0, "late": times.figures(), "to_puback": times.figures(), "to_row": times.figures(),
        "findings": findings, "interrupted": False, "problem": "",
    }  # fmt: skip
    return LoadLedger(**(values | more))
