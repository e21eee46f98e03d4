"""The spans of a batch on its way: which there are, whose children, with which links, and what they say of the end."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from opentelemetry.trace import StatusCode

from app.core.batch.effects import WriteResult
from app.core.decode.decoder import DecodeLimits
from app.core.ingress.trace_budget import TraceBudget
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from app.errors import TransientError
from app.kafka.alert_outbox import KafkaOutbox
from app.kafka.messages import OutgoingMessage
from app.ops.spans.path import LINKS, PathSpans
from app.ops.spans.wrapped import LedgerWithSpans, OutboxWithSpans
from app.pipeline.partition_queue import CoalesceLimit
from app.runtime.tracing.context import context_of
from app.runtime.tracing.tracing import CURRENT, TraceSpan
from tests import DEFAULT
from tests.pipeline.world import Life, MemoryBatch, MemoryLedger, MemoryStore, Worker, World
from tests.spans import NOT_SAMPLED, REMOTE, SAMPLED, Recorded, attributes, ids, linked, parent
from tests.unit.records import TOPIC, Message

RULES = '[{"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}]'
SENT = [("mqtt_topic", TOPIC.encode()), ("kind", b"telemetry"), ("ingest_ms", b"1795230000000"), ("mqtt_id", b"7")]


def reading(offset: int, context: bytes | None = None, **fields: Any) -> Message:
    """A reading that a bridge has brought in."""
    told = {"time": "2026-11-21T02:00:00Z", "user_id": "u1", "device_id": "d1", "sequence_id": offset}
    value = msgspec.json.encode({**told, "temperature": 21.5, **fields})
    headers = [*SENT, ("traceparent", context)] if context else list(SENT)
    return Message(value, headers, offset=offset)


class Outgoing:
    """Kafka, as far as the outbox knows it."""

    def __init__(self) -> None:
        self.messages: list[OutgoingMessage] = []

    async def send(self, topic: str, messages: Sequence[OutgoingMessage]) -> None:
        self.messages += messages


class Traced:
    """A worker whose path makes spans."""

    def __init__(self, recorded: Recorded, **ports: Any) -> None:
        self.recorded, self.world, self.life, self.kafka = recorded, World(), Life(), Outgoing()
        self.spans = PathSpans(recorded.tracing, "iot-worker", TraceBudget(1_000_000))
        rules = RuleBook(DEFAULT)
        rules.apply([("u1", RULES)])
        processor = Processor(DecodeLimits(), DEFAULT, rules, self.world.load)
        outbox = KafkaOutbox(self.kafka, "iot-alerts")  # type: ignore[arg-type]
        self.ledger = MemoryLedger()
        chosen: dict[str, Any] = {
            "ledger": LedgerWithSpans(self.ledger, self.spans),
            "outbox": OutboxWithSpans(outbox, self.spans),
            "tracing": self.spans,
        } | ports
        most = CoalesceLimit(100_000, 1 << 30)
        self.worker = Worker(self.world, self.life, processor, most=most, **chosen)

    async def run(self, *batches: Sequence[Message], epoch: int = 1) -> None:
        items = [MemoryBatch(self.world, self.life.tick, 3, list(one), epoch) for one in batches]
        await self.worker.run(items)


async def test_a_sampled_message_has_its_span_and_its_batch_another() -> None:
    recorded = Recorded()
    before = time.time_ns()
    await Traced(recorded).run([reading(0), reading(1, SAMPLED), reading(2, NOT_SAMPLED)])
    assert [span.name for span in recorded.spans()] == ["store_telemetry_batch", "worker_process", "batch_flush"]
    store, message, flush = recorded.spans()
    assert parent(message) == REMOTE[:2]
    assert linked(message) == [ids(flush)]
    assert linked(flush) == [ids(message)]
    assert parent(flush) is None
    assert parent(store) == ids(flush)
    assert attributes(message) == {
        "user_id": "u1",
        "device_id": "d1",
        "sequence_id": 1,
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "iot-stream",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 1,
        "messaging.consumer.group.name": "iot-worker",
        "messaging.message.body.size": len(reading(1).value or b""),
        "iot.outcome": "stored",
    }
    assert attributes(flush)["messaging.batch.message_count"] == 3
    assert attributes(flush)["iot.links_left_out"] == 0
    assert attributes(store)["iot.rows.stored"] == 3
    assert attributes(store)["iot.rows.duplicate"] == 0
    assert attributes(store)["db.system.name"] == "postgresql"
    times = [message.start_time, flush.start_time, store.start_time, store.end_time, message.end_time, flush.end_time]
    assert [before, *times] == sorted([before, *(at or 0 for at in times)])
    assert all(span.status.status_code is StatusCode.UNSET for span in recorded.spans())


async def test_nothing_sampled_is_nothing_made() -> None:
    recorded = Recorded()
    await Traced(recorded).run([reading(0), reading(1, NOT_SAMPLED)])
    assert recorded.spans() == []


async def test_without_a_context_our_own_share_begins_a_trace() -> None:
    recorded = Recorded(ratio=1.0)
    await Traced(recorded).run([Message(headers=[], offset=0)])
    (message,) = recorded.spans("worker_process")
    assert parent(message) is None
    assert attributes(message)["sequence_id"] == 7


async def test_batches_that_are_joined_are_one_and_each_message_began_when_it_was_taken() -> None:
    recorded = Recorded()
    await Traced(recorded).run(*([reading(n, SAMPLED)] for n in range(6)))
    messages = recorded.spans("worker_process")
    assert sorted(attributes(span)["sequence_id"] for span in messages) == [0, 1, 2, 3, 4, 5]  # type: ignore[type-var]
    starts = [span.start_time or 0 for span in messages]
    assert starts == sorted(starts)
    assert len(set(starts)) == 6
    batches = [attributes(span)["messaging.batch.message_count"] for span in recorded.spans("batch_flush")]
    assert sum(map(int, map(str, batches))) == 6
    assert len(batches) < 6


async def test_a_dead_letter_has_a_span_in_any_case() -> None:
    recorded = Recorded()
    bad = [reading(0, battery="full"), reading(1, SAMPLED, battery="full"), reading(2, NOT_SAMPLED, battery="full")]
    await Traced(recorded).run([*bad, Message(b"{", SENT, offset=3)])
    by_offset = {attributes(span)["messaging.kafka.offset"]: span for span in recorded.spans("worker_process")}
    assert sorted(by_offset) == [0, 1, 2, 3]  # type: ignore[type-var]
    assert [parent(by_offset[at]) for at in range(4)] == [None, REMOTE[:2], REMOTE[:2], None]
    for at in range(3):
        told = attributes(by_offset[at])
        assert (told["iot.outcome"], told["iot.reason"]) == ("dead letter", "wrong_type")
        assert (told["user_id"], told["device_id"], told["sequence_id"]) == ("u1", "d1", at)
        assert by_offset[at].status.status_code is StatusCode.ERROR
        assert "battery" in (by_offset[at].status.description or "")
    assert attributes(by_offset[3])["device_id"] == "d1"
    assert attributes(by_offset[3])["iot.reason"] == "bad_json"
    assert len(recorded.spans("batch_flush")) == 1  # of the one that was sampled


async def test_so_many_dead_letters_a_second_and_no_more() -> None:
    recorded = Recorded(always=2)
    await Traced(recorded).run([reading(n, battery="full") for n in range(50)])
    assert len(recorded.spans("worker_process")) == 2


async def test_what_the_database_refuses_has_a_span_in_any_case() -> None:
    class Refusing(MemoryStore):
        async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
            return WriteResult(1, 0, ((1, "22003 out of range"), (2, "22003 out of range")))

    recorded = Recorded()
    traced = Traced(recorded)
    traced = Traced(recorded, store=Refusing(traced.world, traced.life.tick))
    await traced.run([reading(0), reading(1), reading(2, SAMPLED)])
    told = {attributes(span)["sequence_id"]: attributes(span) for span in recorded.spans("worker_process")}
    assert sorted(told) == [1, 2]  # type: ignore[type-var]
    assert {one["iot.reason"] for one in told.values()} == {"refused_by_database"}
    (store,) = recorded.spans("store_telemetry_batch")
    assert attributes(store)["iot.rows.refused"] == 2


async def test_of_a_duplicate_it_is_said_as_far_as_it_is_known() -> None:
    recorded = Recorded()
    traced = Traced(recorded)
    again = [reading(n, SAMPLED, sequence_id=5) for n in range(2)]
    await traced.run(again)
    await traced.run([reading(2, SAMPLED, sequence_id=5)])
    told = [attributes(span)["iot.outcome"] for span in recorded.spans("worker_process")]
    assert told == ["stored or duplicate", "stored or duplicate", "duplicate"]


async def test_an_alert_carries_the_trace_on() -> None:
    recorded = Recorded()
    traced = Traced(recorded)
    await traced.run([reading(0), reading(1, SAMPLED, temperature=95.5), reading(2)])
    (alert,), (message,) = recorded.spans("alert_publish"), recorded.spans("worker_process")
    assert parent(alert) == ids(message)
    fired, resolved = traced.kafka.messages
    context = context_of(fired.headers)
    assert context is not None
    assert context[:2] == ids(alert)
    assert msgspec.json.decode(fired.value or b"")["traceparent"] == SAMPLED.decode()
    assert resolved.headers == []
    told = attributes(alert)
    assert (told["iot.alert.status"], told["user_id"], told["device_id"]) == ("FIRING", "u1", "d1")


async def test_a_batch_has_links_to_so_many_and_says_how_many_more_there_are() -> None:
    recorded = Recorded()
    await Traced(recorded).run([reading(n, SAMPLED) for n in range(LINKS + 10)])
    (flush,) = recorded.spans("batch_flush")
    assert len(flush.links) == LINKS
    assert attributes(flush)["iot.links_left_out"] == 10
    assert all(linked(span) == [ids(flush)] for span in recorded.spans("worker_process"))


class Interrupted(MemoryStore):
    async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
        raise TransientError("interrupted")


@pytest.mark.parametrize("context", [SAMPLED, None])
async def test_a_batch_that_is_given_up_says_so(context: bytes | None) -> None:
    recorded = Recorded()
    traced = Traced(recorded)
    world, life = traced.world, traced.life
    traced = Traced(recorded, store=Interrupted(world, life.tick))
    await traced.run([reading(0, context)])
    (flush,) = recorded.spans("batch_flush")
    assert attributes(flush)["error.type"] == "interrupted"
    assert flush.status.status_code is StatusCode.ERROR
    told = [attributes(span)["iot.outcome"] for span in recorded.spans("worker_process")]
    assert told == (["interrupted"] if context else [])
    assert len(recorded.spans("store_telemetry_batch")) == len(told)


async def test_nothing_of_an_epoch_is_kept_in_the_next() -> None:
    recorded = Recorded()
    traced = Traced(recorded)
    stale = MemoryBatch(traced.world, traced.life.tick, 3, [reading(0, SAMPLED)])
    stale.stale = True
    await traced.worker.run([stale])
    await traced.run([reading(0, SAMPLED)], epoch=2)
    assert [attributes(span)["iot.outcome"] for span in recorded.spans("worker_process")] == ["stored"]
    assert not traced.spans._open
    assert not any(traced.spans._waiting.values())


async def test_within_a_write_and_at_the_end_of_a_batch_its_span_is_the_current_one() -> None:
    seen: list[tuple[int, int] | None] = []
    current: list[TraceSpan | None] = []

    class Looking(MemoryStore):
        async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
            span = CURRENT.get()
            seen.append(span.context[:2] if span and span.context else None)
            return await super().write(rows, effects, origin)

    class Asking(MemoryLedger):
        def batch_done(self, *told: Any) -> None:
            current.append(CURRENT.get())
            super().batch_done(*told)

    recorded = Recorded()
    traced = Traced(recorded)
    store = Looking(traced.world, traced.life.tick)
    traced = Traced(recorded, store=store, ledger=LedgerWithSpans(Asking(), traced.spans), tracing=traced.spans)
    await traced.run([reading(0, SAMPLED)])
    await traced.run([reading(1)])
    assert CURRENT.get() is None
    (span,), (flush,) = recorded.spans("store_telemetry_batch"), recorded.spans("batch_flush")
    assert seen == [ids(span), None]
    assert [span and span.context and span.context[:2] for span in current] == [ids(flush), None]


async def test_what_a_crash_leaves_open_is_ended_at_the_stop() -> None:
    class Broken(MemoryStore):
        async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
            raise AssertionError("a bug")

    recorded = Recorded()
    traced = Traced(recorded)
    recorded.tracing.before_stop(traced.spans.forget)
    store = Broken(traced.world, traced.life.tick)
    crashed = Traced(recorded, store=store, ledger=LedgerWithSpans(MemoryLedger(), traced.spans), tracing=traced.spans)
    with pytest.raises(AssertionError, match="a bug"):
        await crashed.run([reading(0, SAMPLED)])
    assert recorded.spans() == []
    recorded.tracing.stop(1)
    assert [span.name for span in recorded.spans()] == ["worker_process", "store_telemetry_batch", "batch_flush"]
    assert attributes(recorded.spans("worker_process")[0])["iot.outcome"] == "interrupted"
    recorded.tracing.stop(1)
    assert len(recorded.spans()) == 3
