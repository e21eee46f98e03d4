"""What the consumer of this project leans on inside Faust; a failure after an upgrade says which part to look at.

Three kinds of checks, in this file, test_recovery_internals.py and test_aiokafka_internals.py: names and signatures we
override or call; the order in which Faust calls us, by running its own code on recorders; and, where running it is not
possible without a broker, the words of its source.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.consumer.subscription_state import TopicPartitionState
from faust.app.base import App
from faust.streams import Stream
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from app.settings import Settings
from app.stream.batch_reader import BatchTopic
from app.stream.batches import BatchMessage
from app.stream.consumer_thread import ConsumerThread
from app.stream.faust_config import RoundsApp, build_app
from app.stream.faust_process import FaustProcess
from app.stream.rebalance.recovery import StateRecovery, Tables
from app.stream.transport import BatchConsumer
from app.tables.rocksdb_store import StateStore
from tests.contract.stream.faust_worker import Worker
from tests.contract.stream.internals import in_order, source

READINGS = TP("readings", 0)


SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (driver.Consumer._new_consumer_thread, ["self"]),
    (driver.Consumer._to_message, ["self", "tp", "record"]),
    (faust_consumer.Consumer.getmany, ["self", "timeout"]),
    (faust_consumer.Consumer._get_active_partitions, ["self"]),
    (faust_consumer.Consumer.ack, ["self", "message"]),
    (faust_consumer.Consumer._filter_tps_with_pending_acks, ["self", "topics"]),
    (faust_consumer.Consumer._new_offset, ["self", "tp"]),
    (faust_consumer.Consumer._commit_offsets, ["self", "offsets", "start_new_transaction"]),
    (faust_consumer.Consumer._add_gap, ["self", "tp", "offset_from", "offset_to"]),
    (faust_consumer.Consumer.perform_seek, ["self"]),
    (faust_consumer.Consumer.on_partitions_revoked, ["self", "revoked"]),
    (faust_consumer.Consumer.wait_empty, ["self"]),
    (faust_consumer.Consumer.commit_and_end_transactions, ["self"]),
    (faust_consumer.Consumer.seek, ["self", "partition", "offset"]),
    (faust_consumer.ThreadDelegateConsumer._getmany, ["self", "active_partitions", "timeout"]),
    (faust_consumer.ThreadDelegateConsumer._commit, ["self", "offsets"]),
    (faust_consumer.ThreadDelegateConsumer.highwater, ["self", "tp"]),
    (faust_consumer.ThreadDelegateConsumer.highwaters, ["self", "partitions"]),
    (faust_consumer.ThreadDelegateConsumer.assignment, ["self"]),
    (driver.AIOKafkaConsumerThread._ensure_consumer, ["self"]),
    (driver.AIOKafkaConsumerThread._fetch_records, ["self", "consumer", "active_partitions", "timeout", "max_records"]),
    (driver.AIOKafkaConsumerThread.call_thread, ["self", "fun", "args", "kwargs"]),
    (faust.Topic._compile_decode, ["self"]),
    (Stream.noack, ["self"]),
    (Stream.events, ["self"]),
    (Stream.ack, ["self", "event"]),
]


@pytest.mark.parametrize(("method", "parameters"), SIGNATURES, ids=[method.__qualname__ for method, _ in SIGNATURES])
def test_signature(method: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


OURS = [
    BatchConsumer,
    ConsumerThread,
    StateRecovery,
    Tables,
    FaustProcess,
    StateStore,
    BatchTopic,
]
OWN: dict[Any, set[str]] = {
    BatchConsumer: {"_assemble", "Reader", "Seeks"}  # our parts
    | {"active", "fetch", "singles"}  # what the reader asks for
    | {"commit_now", "drain", "client", "ends"},
    ConsumerThread: {"_watch_group", "_or_crash", "_connect", "client", "connected", "_earliest_offsets"},
    StateStore: {"read", "write", "place", "take", "held"},
    StateRecovery: {"_until_rebalanced", "rounds", "recover_states", "activate", "let_flow"},
}


@pytest.mark.parametrize("ours", OURS, ids=lambda each: each.__name__)
def test_whatever_we_define_either_overrides_something_or_is_new(ours: type) -> None:
    """A renamed hook would leave ours behind as dead code; a new one of theirs would be hidden by ours."""
    defined = {name for name, value in vars(ours).items() if callable(value) or isinstance(value, property)}
    inherited = {name for parent in ours.__mro__[1:] for name in vars(parent)}
    own = OWN.get(ours, set())
    new = {name for name in defined - inherited if not name.startswith("__")}
    assert new == own, "add it to OWN if it is meant to be new; else the method it was to override is gone"


def test_async_stays_async() -> None:
    for name in ("perform_seek", "wait_empty", "on_partitions_revoked", "_commit_offsets", "_add_gap", "seek"):
        assert inspect.iscoroutinefunction(inspect.unwrap(getattr(faust_consumer.Consumer, name))), name
    assert inspect.isasyncgenfunction(faust_consumer.Consumer.getmany)
    for plain in ("ack", "_new_offset", "_get_active_partitions", "_filter_committable_offsets"):
        assert not inspect.iscoroutinefunction(getattr(faust_consumer.Consumer, plain))


@pytest.fixture
async def consumer(tmp_path: Path) -> Any:
    consumer: Any = Worker("127.0.0.1:1", "readings", "none", tmp_path).consumer
    yield consumer
    consumer._thread.thread_loop.close()


async def test_the_transport_makes_our_consumer_and_our_thread(consumer: Any) -> None:
    assert type(consumer) is BatchConsumer
    assert type(consumer._thread) is ConsumerThread
    assert consumer.transport.drain is not None


def test_attributes_of_a_consumer_are_made_before_and_kept() -> None:
    in_order(
        faust_consumer.Consumer.__init__,
        "self.transport = transport",
        "self.app = self.transport.app",
        "self._acked = defaultdict(list)",
        "self._read_offset = defaultdict(lambda: None)",
        "self._committed_offset = defaultdict(lambda: None)",
        "self._unacked_messages = WeakSet()",
        "self.can_resume_flow = Event()",
    )


async def test_what_is_committable_is_what_new_offset_says(consumer: Any) -> None:
    consumer._committed_offset[READINGS] = 5
    asked = []

    def new_offset(tp: TP) -> int:
        asked.append(tp)
        return 7

    consumer._new_offset = new_offset
    assert consumer._filter_committable_offsets([READINGS]) == {READINGS: 7}
    assert asked == [READINGS]
    consumer._committed_offset[READINGS] = 7
    assert consumer._filter_committable_offsets([READINGS]) == {}


async def test_a_commit_asks_for_pending_partitions_then_for_offsets_then_commits(consumer: Any) -> None:
    calls: list[Any] = []

    def pending(topics: Any) -> Iterator[TP]:
        calls.append("pending")
        yield READINGS

    def new_offset(tp: TP) -> int:
        calls.append("offset")
        return 3

    consumer._filter_tps_with_pending_acks, consumer._new_offset = pending, new_offset

    async def commit_offsets(offsets: Any, start_new_transaction: bool = True) -> bool:
        calls.append(offsets)
        return True

    consumer._commit_offsets = commit_offsets
    assert await consumer.force_commit()
    assert calls == ["pending", "offset", {READINGS: 3}]


async def test_revoking_forgets_offsets_before_it_waits(consumer: Any) -> None:
    """So what waits (wait_empty) must not need them: our commit compares with what it knows itself."""
    consumer._committed_offset[READINGS] = 5
    seen = []

    async def callback(revoked: Any) -> None:
        seen.append(dict(consumer._committed_offset))

    consumer._on_partitions_revoked = callback
    consumer.app._start_span_from_rebalancing = lambda _: faust.utils.tracing.noop_span()
    await faust_consumer.Consumer.on_partitions_revoked(consumer, {READINGS})
    assert seen == [{}]


async def test_stopping_waits_until_empty(consumer: Any) -> None:
    called = []

    async def wait_empty() -> None:
        called.append("wait_empty")

    consumer.wait_empty = wait_empty
    await faust_consumer.Consumer.on_stop(consumer)
    assert consumer.app.conf.stream_wait_empty
    assert called == ["wait_empty"]


async def test_the_flow_is_one_flag_and_two_events(consumer: Any) -> None:
    consumer.stop_flow()
    assert (consumer.flow_active, consumer.can_resume_flow.is_set()) == (False, False)
    consumer.resume_flow()
    assert (consumer.flow_active, consumer.can_resume_flow.is_set()) == (True, True)


async def test_paused_partitions_are_not_active(consumer: Any) -> None:
    consumer._set_active_tps({READINGS, TP("readings", 1)})
    consumer.pause_partitions({READINGS})
    assert consumer._get_active_partitions() == {TP("readings", 1)}
    consumer.resume_partitions({READINGS})
    assert consumer._get_active_partitions() == {READINGS, TP("readings", 1)}


async def test_a_seek_moves_the_client_and_the_offset_read_last(consumer: Any) -> None:
    moved = []
    consumer._thread.seek = lambda tp, offset: moved.append((tp, offset))
    await consumer.seek(READINGS, 9)
    assert (moved, consumer._read_offset[READINGS]) == ([(READINGS, 9)], 9)


def test_what_comes_before_the_offset_read_last_is_dropped_by_its_last_offset() -> None:
    in_order(
        faust_consumer.Consumer._drain_messages,
        "getmany(timeout=1.0)",
        "offset = message.offset",
        "if r_offset is None or offset >= r_offset",
        "self._n_acked >= commit_every",
        "self.wait_first( callback(message), self.suspend_flow.wait() )",
        "set_read_offset(tp, offset)",
    )


async def test_fausts_own_look_for_stuck_partitions_finds_one_without_a_position(consumer: Any) -> None:
    """Faust's method crashes on a partition without a position; ours says nothing."""
    in_order(driver.AIOKafkaConsumerThread.verify_event_path, "committed_offset = tp_state.position")
    in_order(faust_consumer.Consumer.verify_all_partitions_active, "self.verify_event_path(now, tp)")
    in_order(driver.Consumer.verify_event_path, "self._thread.verify_event_path(now, tp)")
    consumer.assignment = lambda: {READINGS}
    consumer._thread._verify_aiokafka_event_path = lambda now, tp: False
    await consumer.verify_all_partitions_active()
    found = SimpleNamespace(state_value=lambda tp: TopicPartitionState(None))
    subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=found))
    consumer._thread.time_started = 0.0
    consumer._thread._ensure_consumer = lambda: SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=subscriptions))
    with pytest.raises(AssertionError):
        driver.AIOKafkaConsumerThread.verify_event_path(consumer._thread, 0.0, READINGS)


def message(consumer: Any, offset: int = 0) -> BatchMessage:
    made = BatchMessage("readings", 0, offset, 0.0, 0, [], b"", ["r"], None, tp=READINGS, generation_id=3)
    made.first_offset, made.next_offset, made.weight, made.epoch = offset, offset + 1, 1, consumer.flight.epoch
    return made


async def test_a_message_takes_our_attributes_and_keeps_its_generation(consumer: Any) -> None:
    made = message(consumer)
    assert (made.tp, made.offset, made.value, made.generation_id) == (READINGS, 0, ["r"], 3)
    assert (made.acked, made.in_work) == (False, False)
    assert hash(made) is not None
    assert issubclass(BatchMessage, ConsumerMessage)


async def test_stream_ack_reaches_the_consumer_once_the_last_reader_is_done(consumer: Any) -> None:
    made = message(consumer)
    acked: list[Any] = []
    consumer.ack = acked.append
    made.incref()
    consumer.track_message(made)
    made.ack(consumer)
    assert acked == [made]
    in_order(Stream.ack, "event.ack()")
    in_order(faust.Event.ack, "self.message.ack(self.app.consumer)")


async def test_tracked_messages_are_held_weakly_and_can_be_dropped(consumer: Any) -> None:
    made = message(consumer)
    consumer._on_message_in = lambda *_: None
    consumer.track_message(made)
    assert made in consumer._unacked_messages
    consumer._unacked_messages.clear()
    assert made not in consumer._unacked_messages


def test_a_stream_without_acks_is_a_clone_of_the_first() -> None:
    in_order(Stream.noack, "self._next = new_stream = self.clone(", "enable_acks=False")


def test_topics_decode_with_the_function_we_compile() -> None:
    in_order(faust.Topic.__init__, "self._compile_decode()")
    in_order(faust.Topic._compile_decode, "self.decode = ")


def test_a_failing_agent_crashes_the_worker() -> None:
    app = build_app(Settings(app="none"), RoundsApp)
    assert app.conf.agent_supervisor.__name__ == "CrashingSupervisor"
    # That supervisor leaves service.supervisor unset; a crash then goes up to the app.
    assert source(app.conf.agent_supervisor._contribute_to_service).endswith("pass")
    in_order(Service.crash, "if self.supervisor:", "self.supervisor.wakeup()", "else:", "child._crash(reason)")
    assert app.conf.processing_guarantee.name == "AT_LEAST_ONCE"


def test_a_transport_may_be_set_before_the_first_agent() -> None:
    assert isinstance(inspect.getattr_static(App, "transport"), property)
    assert inspect.getattr_static(App, "transport").fset is not None
    assert asyncio.iscoroutinefunction(Service.wait_first)
