"""Status and config records -> effects on the database, or the reason why not."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from app.core.batch.effects import Effect, Statement
from app.core.model.records import Kind, Reason, Rejected, Stage
from app.core.processing.control_effects import STATUS_MAX, config_effect, status_effect
from app.core.routing.address import Address
from tests import DEFAULT
from tests.unit.readings import rule
from tests.unit.records import NOW, NOW_MS, Message

NODE = Address(Kind.STATUS, "n1", "n1", "iot/n1/status")
USER = Address(Kind.CONFIG, "u1", "", "users/u1/config")
PLACE = (3, 42, True)  # partition, offset, and that it has just been sent
RULES = msgspec.json.encode([rule("temperature")])


def status(payload: bytes | None, address: Address = NODE) -> Effect | Rejected:
    return status_effect(Message(payload), address, NOW_MS)


def config(payload: bytes | None) -> Effect | Rejected:
    return config_effect(Message(payload), USER, NOW_MS, 3, DEFAULT)


@pytest.mark.parametrize(
    ("payload", "word", "detail"),
    [
        (b"online", "online", "{}"),
        (b" online\n", "online", "{}"),
        (b'"offline"', "offline", "{}"),
        (b'{"status":"ok","rssi":-70.10}', "ok", '{"status":"ok","rssi":-70.10}'),
        ("gerät-an".encode(), "gerät-an", "{}"),
        (b"x" * STATUS_MAX, "x" * STATUS_MAX, "{}"),
    ],
)
def test_status(payload: bytes, word: str, detail: str) -> None:
    seen = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    assert status(payload) == Effect(Statement.UPSERT_STATUS, ("n1/n1", "n1", "n1", word, seen, detail))


def test_status_of_a_node_without_a_device() -> None:
    found = status(b"online", Address(Kind.STATUS, "n1", ""))
    assert isinstance(found, Effect)
    assert found.args[:3] == ("n1", "n1", "")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, Reason.EMPTY_PAYLOAD),
        (b"", Reason.EMPTY_PAYLOAD),
        (b"\xff\xfe", Reason.BAD_ENCODING),
        (b'{"status":"\xff"}', Reason.BAD_ENCODING),
        (b"{", Reason.BAD_JSON),
        (b"{}", Reason.BAD_JSON),
        (b'{"status":[7]}', Reason.BAD_JSON),
        (b'{"status":"\\ud800"}', Reason.BAD_JSON),
        (b'{"rssi":1}', Reason.BAD_JSON),
        (b'{"status":"ok","a":' + b"[" * 100_000, Reason.BAD_JSON),
        (b'{"status":""}', Reason.WRONG_TYPE),
        (b"   ", Reason.WRONG_TYPE),
        (b"x" * (STATUS_MAX + 1), Reason.WRONG_TYPE),
        (b"on\0line", Reason.WRONG_TYPE),
        (b"two\nlines", Reason.WRONG_TYPE),
    ],
)
def test_status_that_cannot_be_stored(payload: bytes | None, reason: Reason) -> None:
    found = status(payload)
    assert isinstance(found, Rejected)
    assert (found.reason, found.stage, found.record.value) == (reason, Stage.VALIDATE, payload)
    assert found.detail
    assert "\n" not in found.detail


@pytest.mark.parametrize("payload", [RULES, b' {"rules": ' + RULES + b', "other": 1}'])
def test_config(payload: bytes) -> None:
    assert config(payload) == Effect(Statement.UPSERT_CONFIG, ("u1", RULES.decode(), None, NOW, *PLACE))


def test_config_that_takes_all_rules_away() -> None:
    assert config(b"[]") == Effect(Statement.UPSERT_CONFIG, ("u1", "[]", None, NOW, *PLACE))


WINDOWS = b'[{"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00+01:00", "devices": ["d*"], "note": "n"}]'


def test_config_with_maintenance() -> None:
    alone = config(b'{"maintenance": ' + WINDOWS + b"}")
    assert alone == Effect(Statement.UPSERT_CONFIG, ("u1", None, WINDOWS.decode(), NOW, *PLACE))
    both = config(b'{"maintenance": [], "rules": ' + RULES + b"}")
    assert both == Effect(Statement.UPSERT_CONFIG, ("u1", RULES.decode(), "[]", NOW, *PLACE))


def test_a_config_bears_the_time_it_came_in() -> None:
    found = config_effect(Message(b"[]"), USER, NOW_MS - 1000, 3, DEFAULT)
    assert isinstance(found, Effect)
    assert found.args[3:] == (NOW - timedelta(seconds=1), *PLACE)


@pytest.mark.parametrize("headers", [[], [("ingest_ms", b"%d" % (NOW_MS - 600_000))], [("replay_count", b"1")]])
def test_a_config_knows_whether_its_place_in_the_log_is_that_of_its_sending(headers: list[tuple[str, bytes]]) -> None:
    found = config_effect(Message(b"[]", headers), USER, NOW_MS, 3, DEFAULT)
    assert isinstance(found, Effect)
    assert found.args[-1] == (("replay_count", b"1") not in headers)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, Reason.EMPTY_PAYLOAD),
        (b"", Reason.EMPTY_PAYLOAD),
        (b'{"maintenance": {}}', Reason.INVALID_RULES),
        (b'{"maintenance": [], "rules": 5}', Reason.INVALID_RULES),
        (b"{", Reason.INVALID_RULES),
        (b"{}", Reason.INVALID_RULES),
        (b"7", Reason.INVALID_RULES),
        (b"\xff", Reason.INVALID_RULES),
        (b"[" * 100_000, Reason.INVALID_RULES),
        (msgspec.json.encode([rule("temperature"), {"key": "x"}]), Reason.INVALID_RULES),
        (b'{"rules":[],"other":"\xff"}', Reason.INVALID_RULES),
    ],
)
def test_config_that_is_refused(payload: bytes | None, reason: Reason) -> None:
    found = config(payload)
    assert isinstance(found, Rejected), found
    assert (found.reason, found.stage) == (reason, Stage.VALIDATE)
    assert found.detail


def test_every_wrong_rule_is_named() -> None:
    found = config(msgspec.json.encode([{"key": "a", "operator": "~"}, rule("b"), {"operator": ">"}]))
    assert isinstance(found, Rejected)
    assert "rules[0]" in found.detail
    assert "rules[2]" in found.detail
    assert "rules[1]" not in found.detail
