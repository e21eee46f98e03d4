"""What /health calls the last error."""

from datetime import datetime

import pytest

from app.runtime.last_error import LONGEST, LastError


@pytest.mark.parametrize(
    ("level", "line", "said"),
    [
        ("error", {"event": "circuit_breaker_OPENED", "error": "no route"}, "circuit_breaker_OPENED: no route"),
        ("warning", {"event": "bridge_mqtt_disconnected", "reason": "gone"}, "bridge_mqtt_disconnected: gone"),
        ("error", {"event": "operator_needed", "what": "writes: no table"}, "operator_needed: writes: no table"),
        ("error", {"event": "bridge_record_lost", "bytes": 3}, "bridge_record_lost"),
        ("warning", {"event": "rebalance_slow"}, None),
        ("info", {"event": "kafka_send_retry", "error": "a leader that moved"}, None),
        ("warning", {"event": "dead_letters", "reason": "bad_json", "detail": "x"}, None),
        ("warning", {"event": "login_refused", "reason": "bad_credentials"}, None),
    ],
)
def test_a_failure_and_what_is_none(level: str, line: dict[str, object], said: str | None) -> None:
    last = LastError()
    assert last.shown is None
    assert last(None, level, dict(line)) == line
    shown = last.shown
    assert (shown and shown["error"]) == said
    if shown:
        assert datetime.fromisoformat(shown["at"]).tzinfo is not None


def test_it_is_the_last_one_and_not_too_long() -> None:
    last = LastError()
    last(None, "error", {"event": "first", "error": "x"})
    last(None, "error", {"event": "second", "error": "y" * 10_000})
    last(None, "info", {"event": "third"})
    assert last.shown is not None
    assert last.shown["error"].startswith("second: yyy")
    assert len(last.shown["error"]) == LONGEST
