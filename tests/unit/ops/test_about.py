"""What a program says of itself."""

import json
from collections.abc import Mapping

import pytest
from prometheus_client import REGISTRY

from app.ops import about
from app.ops.about import About
from app.runtime.flushes import Flushes
from app.runtime.last_error import LastError
from app.runtime.version import VERSION


async def test_the_page_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(about, "LAST_ERROR", LastError())
    flushes, checks = Flushes(), {"assigned": True, "database": True}

    async def ready() -> Mapping[str, bool]:
        return checks

    made = About("worker", "line-7", ready, lambda: 118, flushes, lambda: {"kafka": False})
    found = json.loads(json.dumps(await made.health()))
    assert found.pop("uptime_seconds") >= 0
    assert found == {
        "status": "ok",
        "program": "worker",
        "app": "line-7",
        "version": VERSION,
        "queue_depth": 118,
        "last_flush": None,
        "mean_flush_seconds": None,
        "kafka": False,
        "database": True,
        "mqtt": None,
        "last_error": None,
        "checks": {"assigned": True, "database": True},
    }
    assert REGISTRY.get_sample_value("iot_build_info", {"version": VERSION, "app": "line-7", "program": "worker"}) == 1


async def test_after_a_flush_and_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    failures, flushes = LastError(), Flushes()
    monkeypatch.setattr(about, "LAST_ERROR", failures)

    async def ready() -> Mapping[str, bool]:
        return {"mqtt": False, "kafka": True}

    made = About("bridge", "worker", ready, lambda: 0, flushes)
    flushes.add(12, 0.25)
    flushes.add(30, 0.75)
    failures(None, "error", {"event": "bridge_mqtt_disconnected", "reason": "gone"})
    found = await made.health()
    assert (found["status"], found["mqtt"], found["kafka"], found["database"]) == ("not ready", False, True, None)
    assert found["mean_flush_seconds"] == 0.5
    last, error = found["last_flush"], found["last_error"]
    assert isinstance(last, dict)
    assert isinstance(error, dict)
    assert (last["rows"], last["seconds"], last["at"][-6:]) == (30, 0.75, "+00:00")
    assert error["error"] == "bridge_mqtt_disconnected: gone"
