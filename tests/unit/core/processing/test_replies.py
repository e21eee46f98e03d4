"""What is answered to a user whose rules or command were refused: to whom, what, and not again by a replay."""

from datetime import timedelta

import msgspec

from app.core.model.records import Record
from app.core.model.reply import Reply
from app.core.processing.replies import answer_to_edit
from app.core.state.keys import MARK_KEY
from app.core.user_config.last_known_good import ConfigRevision, RefusedRevision
from app.kafka.alert_outbox import TOPIC_HEADER
from app.notify.alert_records import alert_events, answers
from tests.unit.core.processing.test_processor import HOT, Subject, other, telemetry
from tests.unit.readings import START
from tests.unit.records import Message


def test_a_refused_config_is_answered_with_every_reason() -> None:
    (reported,) = Subject()(other("users/u/config", b'[{"key": "t", "operator": "~"}]', 3)).answers
    assert (reported.topic, reported.key) == ("users/u/config/errors", b"u/")
    body = msgspec.json.decode(reported.value)
    assert body["reason"] == "invalid_rules"
    assert "rules[0].operator" in body["error"]
    assert "rules[0].message: missing" in body["error"]
    assert body["payload"] == '[{"key": "t", "operator": "~"}]'
    assert body["received"].endswith("Z")


def test_a_wrong_command_is_answered() -> None:
    subject = Subject(HOT)
    subject(telemetry(0, temperature=20))
    wrong = b'{"device_id": "d", "rule_id": "x", "action": "ACK"}'
    broken, unknown = subject(other("users/u/alerts/manage", b"{", 1), other("users/u/alerts/manage", wrong, 2)).answers
    assert broken.topic == unknown.topic == "users/u/alerts/errors"
    assert msgspec.json.decode(broken.value)["reason"] == "invalid_command"
    assert "rule_id is x; the rules of this device are temperature" in msgspec.json.decode(unknown.value)["error"]


def test_a_command_without_a_topic_is_answered_to_the_user_it_names() -> None:
    body = b'{"device_id": "d", "rule_id": "x", "action": "ACK", "user_id": "v"}'
    (reported,) = Subject()(Message(body, (("kind", b"alerts_manage"),), None, offset=1)).answers
    assert reported.topic == "users/v/alerts/errors"
    assert Subject()(Message(b"{", (("kind", b"alerts_manage"),), None, offset=1)).answers == []


def test_what_nobody_asked_for_is_answered_to_nobody() -> None:
    work = Subject()(other("users/u/config", b"[]", 0), telemetry(1, temperature="hot"), other("nowhere", b"{}", 2))
    assert (len(work.rejected), work.answers) == (2, [])


def test_a_replay_answers_nobody() -> None:
    subject, bad = Subject(), other("users/u/config", b"{", 7)
    work = subject(bad)
    assert work.states == {MARK_KEY: b"7"}, "or a crash would answer again and again"
    again = subject(bad, epoch=2)
    assert (len(again.rejected), again.answers) == (1, [])
    assert len(subject(other("users/u/config", b"{", 8), epoch=2).answers) == 1


def test_each_answer_has_an_id_of_its_own_that_stays() -> None:
    records = [other(f"users/{user}/config", b"{", offset) for user in "uv" for offset in (1, 2)]
    ids = [msgspec.json.decode(Subject()(record).answers[0].value)["id"] for record in (*records, records[0])]
    assert ids[4] == ids[0]
    assert len(set(ids)) == 4


def outbox(topic: bytes, value: bytes = b"{}") -> Record:
    return Message(value, ((TOPIC_HEADER, topic),))


def test_the_notifier_publishes_answers_to_their_topics_alone() -> None:
    topics = [b"users/u/config/errors", b"users/u/alerts/errors", b"users/u/alerts", b"users/+/config/errors", b"\xff",
              b"users//config/errors", b"users/u/config", b"#", b"users/u/devices/d/telemetry"]  # fmt: skip
    records = [outbox(topic, topic) for topic in topics]
    assert answers(records) == [(topic.decode(), topic) for topic in topics[:2]]
    assert alert_events(records) == {}


def test_an_answer_is_no_alert_event() -> None:
    (reported,) = Subject()(other("users/u/config", b"{", 3)).answers
    assert isinstance(reported, Reply)
    assert alert_events([Message(reported.value, ((TOPIC_HEADER, reported.topic.encode()),))]) == {}


def test_an_edit_by_hand_is_answered_by_any_worker_alike() -> None:
    refusal = RefusedRevision(
        ConfigRevision("u", '[{"key": 1}]', START, None), ("rules[0].key: 1 is no name", "rules[0].message: missing")
    )
    reported = answer_to_edit(refusal)
    assert reported is not None
    assert reported == answer_to_edit(refusal._replace(change=refusal.change._replace(accepted="[]")))
    assert (reported.topic, reported.key) == ("users/u/config/errors", b"u/")
    body = msgspec.json.decode(reported.value)
    assert body["error"] == "rules[0].key: 1 is no name; rules[0].message: missing"
    assert (body["payload"], body["reason"]) == ('[{"key": 1}]', "invalid_rules")
    later = answer_to_edit(refusal._replace(change=refusal.change._replace(updated_at=START + timedelta(seconds=1))))
    assert later is not None
    assert msgspec.json.decode(later.value)["id"] != body["id"]
    assert answer_to_edit(refusal._replace(change=refusal.change._replace(user_id="a/b"))) is None, "no topic has it"
