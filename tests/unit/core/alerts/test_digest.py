"""The digest of a storm, and what is said of an old alert."""

from datetime import UTC, datetime, timedelta

import msgspec

from app.core.alerts.digest import LISTED_MAX, RULES_MAX, HeldAlert, digest
from app.core.model.alert_event import AlertEvent, Severity, Status, as_sent, is_late, to_json

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def held(number: int, status: str = "FIRING", severity: str | None = "warning") -> HeldAlert:
    return HeldAlert(f"a{number}", status, 0, f"d{number % 3}", f"r{number}", severity, NOW + timedelta(seconds=number))


def test_a_digest_counts_and_names_the_first() -> None:
    events = [held(n) for n in range(LISTED_MAX + 50)] + [held(0, "RESOLVED", None)]
    body = msgspec.json.decode(digest("u", events))
    assert (body["user_id"], body["status"], body["count"], body["devices"]) == ("u", "DIGEST", LISTED_MAX + 51, 3)
    assert (body["begin"], body["end"]) == ("2026-11-21T00:00:00Z", "2026-11-21T00:04:09Z")
    assert body["by_status"] == {"FIRING": LISTED_MAX + 50, "RESOLVED": 1}
    assert body["by_severity"] == {"warning": LISTED_MAX + 50, "": 1}
    assert len(body["by_rule"]) == RULES_MAX
    assert body["by_rule"]["r0"] == 2
    assert [one["alert_id"] for one in body["alerts"]] == [f"a{n}" for n in range(LISTED_MAX)]
    assert body["omitted"] == 51
    assert body["alerts"][0]["event_time"] == "2026-11-21T00:00:00Z"


def test_a_digest_that_is_sent_again_has_the_same_id() -> None:
    first, grown, other = ([held(0)], [held(0), held(1)], [held(1)])
    ids = [msgspec.json.decode(digest("u", events))["digest_id"] for events in (first, grown, other)]
    assert ids[0] == ids[1] != ids[2]
    assert msgspec.json.decode(digest("v", first))["digest_id"] != ids[0]


def test_only_an_old_alert_is_delayed() -> None:
    event = AlertEvent("a", "u", "d", "r", Status.FIRING, Severity.INFO, "}", 1, 2, NOW, NOW)
    text = to_json(event)
    assert not is_late(event, NOW + timedelta(seconds=60), 60)
    assert is_late(event, NOW + timedelta(seconds=60, microseconds=1), 60)
    assert as_sent(text, late=False) == text
    late = as_sent(text + b"\n", late=True)
    assert msgspec.json.decode(late) == msgspec.json.decode(text) | {"delayed": True}
