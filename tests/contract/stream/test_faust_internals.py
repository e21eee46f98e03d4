"""What this project leans on inside Faust, mode and aiokafka; a failure after an upgrade says which part to look at.

Three kinds of checks: names and signatures we override or call; the order in which Faust calls us, by running its own
code on recorders; and, where running it is not possible without a broker, the words of its source.
"""

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.producer import sender as aiokafka_sender
from faust.app.base import App
from faust.stores.rocksdb import RocksDBOptions, Store
from faust.streams import Stream
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from app.settings import Settings
from app.stream import fetcher
from app.stream.batches import BatchMessage, BatchTopic
from app.stream.consumer_thread import ConsumerThread
from app.stream.faust_config import RoundsApp, build_app
from app.stream.faust_process import FaustProcess
from app.stream.offset_thread import OffsetThread
from app.stream.prefix_commit import PrefixConsumer
from app.stream.transport import BatchConsumer
from app.tables.device_table import FaustStates
from app.tables.recovery import StateRecovery, Tables
from app.tables.rocksdb_store import ROCKSDB_OPTIONS, StateStore
from tests.contract.stream.faust_worker import Worker

READINGS = TP("readings", 0)


def source(subject: Any) -> str:
    """Its code without comments, docstring and layout."""
    text = inspect.getsource(subject)
    text = re.sub(r'"""(?:.|\n)*?"""', "", text, count=1)
    return " ".join(re.sub(r"#.*", "", text).split())


def in_order(subject: Any, *parts: str) -> None:
    """Each of `parts` occurs in the code of `subject`, one after another."""
    text, at = source(subject), 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{subject.__qualname__}: {part!r} is gone, or comes earlier than it did:\n{text}"
        at = found + len(part)


@pytest.mark.parametrize(
    ("package", "expected"),
    [("faust-streaming", "0.15.3"), ("aiokafka", "0.14.0")],
)
def test_the_versions_this_was_checked_against(package: str, expected: str) -> None:
    assert version(package) == expected
    assert f'"{package}' in (text := Path("pyproject.toml").read_text())
    assert f"=={expected}" in text


# -- names and signatures

SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (driver.Consumer._new_consumer_thread, ["self"]),
    (driver.Consumer._to_message, ["self", "tp", "record"]),
    (faust_consumer.Consumer.getmany, ["self", "timeout"]),
    (faust_consumer.Consumer._wait_next_records, ["self", "timeout"]),
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
    (Store._open_for_partition, ["self", "partition"]),
    (Store._db_for_partition, ["self", "partition"]),
    (Store.partition_path, ["self", "partition"]),
    (Store.persisted_offset, ["self", "tp"]),
    (faust.Table._new_store, ["self"]),
    (TableManager.add, ["self", "table"]),
    (TableManager.on_commit, ["self", "offsets"]),
    (faust.Topic._compile_decode, ["self"]),
    (Stream.noack, ["self"]),
    (Stream.events, ["self"]),
    (Stream.ack, ["self", "event"]),
    (aiokafka.AIOKafkaConsumer.beginning_offsets, ["self", "partitions"]),
    (aiokafka.AIOKafkaConsumer.end_offsets, ["self", "partitions"]),
    (aiokafka.AIOKafkaConsumer.committed, ["self", "partition"]),
    (aiokafka.AIOKafkaConsumer.position, ["self", "partition"]),
    (aiokafka.AIOKafkaConsumer.seek, ["self", "partition", "offset"]),
    (aiokafka.AIOKafkaConsumer.assign, ["self", "partitions"]),
    (aiokafka.AIOKafkaConsumer.getmany, ["self", "partitions", "timeout_ms", "max_records"]),
    (driver.server_list, ["urls", "default_port"]),
    (driver.credentials_to_aiokafka_auth, ["credentials", "ssl_context"]),
    (aiokafka_fetcher.Fetcher.fetched_records, ["self", "partitions", "timeout", "max_records"]),
    (aiokafka_fetcher.FetchResult.getall, ["self", "max_records"]),
    (GroupCoordinator._send_req, ["self", "request"]),
    (GroupCoordinator.reset_generation, ["self"]),
]


@pytest.mark.parametrize(("method", "parameters"), SIGNATURES, ids=[method.__qualname__ for method, _ in SIGNATURES])
def test_signature(method: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


OURS = [
    BatchConsumer,
    PrefixConsumer,
    ConsumerThread,
    OffsetThread,
    StateRecovery,
    Tables,
    FaustProcess,
    StateStore,
    BatchTopic,
]
OWN: dict[Any, set[str]] = {
    BatchConsumer: {
        "_placed",
        "_has_room",
        "_singles",
        "_batches",
        "_contiguous",
        "_forget",
        "_passed_over",
        "_put_back",
        "_seek_to",
        "taken_up",
        "_now",
        "_still",
    }
    | {"look_again", "current", "ends", "doubt"},
    PrefixConsumer: {"_commit_now", "_commit_and_leave_it", "_still_done"},
    ConsumerThread: {"_watch_group", "_or_crash"},
    OffsetThread: {"extents", "reached", "starts", "ends", "_reached", "_extents", "_starts", "_ends"}
    | {"seek_to", "_seek_to", "rejoin", "_rejoin", "_earliest_offsets", "_insist", "log_ends", "_log_ends"},
    StateStore: {"read", "write", "place", "take", "held"},
    StateRecovery: {"_catch_up", "_until_rebalanced", "_rounds"},
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


# -- a consumer that is connected to nothing


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


def test_a_revoke_stops_the_flow_clears_the_queues_and_then_waits() -> None:
    in_order(
        App._on_partitions_revoked,
        "consumer.stop_flow",
        "flow_control.suspend",
        "flow_control.clear",
        "self._consumer_wait_empty",
    )


async def test_stopping_waits_until_empty(consumer: Any) -> None:
    called = []

    async def wait_empty() -> None:
        called.append("wait_empty")

    consumer.wait_empty = wait_empty
    await faust_consumer.Consumer.on_stop(consumer)
    assert consumer.app.conf.stream_wait_empty
    assert called == ["wait_empty"]


def test_stopping_the_app_stops_the_flow_before_it_waits() -> None:
    in_order(App._stop_consumer, "stop_flow()", "flow_control.suspend()", "flow_control.clear()", "wait_empty")


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


@pytest.mark.parametrize("method", [Recovery.on_recovery_completed, Recovery._resume_streams])
def test_after_recovery_partitions_are_resumed_then_sought_then_the_flow(method: Any) -> None:
    """Partitions are active before they are placed: BatchConsumer hands over nothing before perform_seek."""
    in_order(method, "consumer.resume_partitions(", "consumer.perform_seek()", "flow_control.resume()", "resume_flow()")
    in_order(method, "self.app.consumer_generation_id != generation_id", "return", "perform_seek")


def test_what_fails_in_a_rebalance_comes_to_the_thread_which_aiokafka_lets_go_on() -> None:
    for method in (GroupCoordinator._on_join_prepare, GroupCoordinator._on_join_complete):
        in_order(method, "self._subscription.listener.on_partitions", "except Exception:", "log.exception(")
    consumer = faust_consumer.ThreadDelegateConsumer
    for method in (consumer.threadsafe_partitions_revoked, consumer.threadsafe_partitions_assigned):
        in_order(method, "promise = await self._method_queue.call(", "await promise")


async def test_fausts_own_look_for_stuck_partitions_finds_one_without_a_position(consumer: Any) -> None:
    """It crashes on a partition that has none; ours says nothing."""
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


def test_recovery_does_what_we_replace_and_nothing_else() -> None:
    """Ours begins and ends as Faust's; what lies between is the reading of changelogs, which stay paused."""
    in_order(
        Recovery._restart_recovery.fun,
        "wait_for_stopped( self.signal_recovery_start",
        "self.signal_recovery_start.clear()",
        "generation_id = self._generation_id",
        "self._set_recovery_started()",
        "self.on_recovery_completed)(generation_id)",
        "except RebalanceAgain",
        "except IllegalStateError",
        "except ServiceStopped",
    )
    in_order(Recovery._wait, "self.wait_first( coro, signal", "raise ServiceStopped()", "raise RebalanceAgain()")
    in_order(Recovery.add_active, "self.active_tps.add(tp)", "self._add(table, tp")
    in_order(Recovery._add, "self.tp_to_table[tp] = table")
    in_order(Recovery.on_rebalance, "self.active_tps.clear()", "self.add_active(table, tp)")
    in_order(Recovery.on_rebalance, "self.add_active(table, tp)", "signal_recovery_start.set()")
    in_order(TableManager.on_start, "self.sleep(1.0)", "self._update_channels()", "self.recovery.start()")
    in_order(Recovery.on_recovery_completed, "_set_recovery_ended()", "if not self._is_changelog_tp(tp)")
    in_order(Recovery.on_recovery_completed, "resume_flow()", "app.on_rebalance_end()")
    in_order(App.on_rebalance_start, "self.rebalancing = True")
    in_order(App.on_rebalance_end, "self.rebalancing = False")
    in_order(TableManager.on_rebalance, "recovery.on_rebalance")
    in_order(App._on_partitions_assigned, "consumer.pause_partitions", "tables.on_rebalance")


def test_the_generation_is_known_before_the_assignment_is_handled() -> None:
    in_order(
        driver.ConsumerRebalanceListener.on_partitions_assigned,
        "consumer_generation_id = generation",
        "on_partitions_assigned(",
    )


# -- acks


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


# -- the client


async def test_max_records_bounds_what_one_poll_returns() -> None:
    """broker_max_poll_records is batch_max_rows: a poll gives at most one batch of a busy partition."""
    records = list(range(10))
    state = SimpleNamespace(paused=False, position=0, consumed_to=lambda _: None)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)

    class Run:
        next_fetch_offset = 0

        def __iter__(self) -> Iterator[int]:
            return iter(records)

    result = aiokafka_fetcher.FetchResult(READINGS, assignment=assignment, partition_records=Run(), backoff=0)
    assert result.getall(4) == [0, 1, 2, 3]
    assert result.has_more()
    in_order(
        driver.AIOKafkaConsumerThread.getmany,
        "call_thread( self._fetch_records",
        "max_records=_consumer._max_poll_records",
    )


def test_what_a_seek_has_overtaken_is_not_returned() -> None:
    in_order(
        aiokafka_fetcher.FetchResult.check_assignment,
        "position != self._partition_records.next_fetch_offset",
        "return_result = False",
    )


def test_the_names_under_which_decoded_records_are_kept() -> None:
    """taking.take_ready does what these do, for whole batches."""
    assert vars(fetcher)["FetchResult"] is aiokafka_fetcher.FetchResult
    in_order(aiokafka_fetcher.FetchResult.__init__, "self._partition_records = partition_records")
    records = aiokafka_fetcher.PartitionRecords
    in_order(records.__init__, "self._records = records", "self._check_crcs = check_crcs")
    in_order(
        records.__init__, "self.next_fetch_offset = fetch_offset", "self._records_iterator = self._unpack_records()"
    )
    in_order(
        records._unpack_records,
        "while records.has_next():",
        "next_batch = records.next_batch()",
        "if self._check_crcs and not next_batch.validate_crc():",
        "if next_batch.is_control_batch:",
        "for record in next_batch:",
        "if record.offset < self.next_fetch_offset:",
        "self.next_fetch_offset = next_batch.next_offset",
    )
    in_order(aiokafka_fetcher.FetchResult._update_position, "self._partition_records.next_fetch_offset")
    in_order(
        aiokafka_fetcher.Fetcher.fetched_records,
        "if self._subscriptions.reassignment_in_progress:",
        "res_or_error = self._records[tp]",
        "if not res_or_error.has_more():",
        "del self._records[tp]",
        "self._notify(self._wait_consume_future)",
    )
    assert "self._records = collections.OrderedDict()" in source(aiokafka_fetcher.Fetcher.__init__)


# -- the group


def test_a_fetch_waits_as_long_as_the_client_was_told_before_its_start() -> None:
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source(aiokafka.AIOKafkaConsumer.start)
    assert "fetch_max_wait_ms=1500" in source(driver.AIOKafkaConsumerThread._create_worker_consumer)


def test_what_the_client_has_paused_it_does_not_fetch() -> None:
    in_order(
        aiokafka_fetcher.Fetcher._get_actions_per_node, "elif tp_state.paused:", "else:", "fetchable[node_id].append"
    )


def test_a_named_member_joins_under_its_name_and_does_not_leave() -> None:
    thread = driver.AIOKafkaConsumerThread
    assert "group_instance_id=conf.consumer_group_instance_id" in source(thread._create_worker_consumer)
    assert "self._coordinator._group_instance_id" in source(CoordinatorGroupRebalance.perform_group_join)
    assert "if self.generation > 0 and self._group_instance_id is None" in source(GroupCoordinator._maybe_leave_group)


def test_sensors_hear_of_each_part_of_a_rebalance() -> None:
    in_order(driver.ConsumerRebalanceListener.on_partitions_revoked, "app.on_rebalance_start()")
    in_order(App.on_rebalance_start, "self._rebalancing_sensor_state = self.sensors.on_rebalance_start(self)")
    in_order(App.on_rebalance_return, "self.sensors.on_rebalance_return(self, sensor_state)")
    in_order(App.on_rebalance_end, "self.sensors.on_rebalance_end(self, sensor_state)")
    in_order(faust_consumer.Consumer.on_partitions_assigned, "self.app.on_rebalance_return()")
    in_order(Recovery.on_recovery_completed, "self.app.on_rebalance_end()")
    in_order(faust_consumer.Consumer.track_message, "self._on_message_in(message.tp, message.offset, message)")


def test_all_that_is_heard_of_our_membership_goes_through_two_methods() -> None:
    """lease.SessionLease.watch puts its own around them, before Faust subscribes and so before the first join."""
    in_order(
        GroupCoordinator._do_heartbeat,
        "HeartbeatRequest(",
        "await self._send_req(request)",
        "if error_type is Errors.NoError:",
        "return True",
        "elif error_type is Errors.RebalanceInProgressError:",
        "return True",
        "elif error_type is Errors.IllegalGenerationError:",
        "self.reset_generation()",
        "elif error_type is Errors.UnknownMemberIdError:",
        "self.reset_generation()",
    )
    rebalance = CoordinatorGroupRebalance
    in_order(rebalance._send_sync_group_request, "await self._coordinator._send_req(request)", "reset_generation()")
    for method in (rebalance._on_join_leader, rebalance._on_join_follower):
        in_order(method, "SyncGroupRequest(", "_send_sync_group_request(request)")
    in_order(GroupCoordinator._do_commit_offsets, "Errors.UnknownMemberIdError", "self.reset_generation()")
    in_order(GroupCoordinator._maybe_leave_group, "self._send_req(request)", "self.reset_generation()")
    assert "__slots__" not in vars(GroupCoordinator)


def test_what_a_producer_writes_goes_through_one_method_and_its_failure_fails_the_messages() -> None:
    """lease.guard puts its own around it; a KafkaError that is not retriable ends a batch and not the sender."""
    in_order(
        aiokafka_sender.SendProduceReqHandler.do,
        "response = await self._client.send(node_id, request)",
        "except KafkaError as err:",
        "if not self._can_retry(err, batch):",
        "batch.failure(exception=err)",
    )
    assert "self._client = sender.client" in source(aiokafka_sender.SendProduceReqHandler.__init__)
    assert not aiokafka.errors.KafkaError.retriable


def test_a_heartbeat_that_is_late_is_sent_at_once() -> None:
    """It sleeps by the loop's clock, which went on while the process was stopped; a failed one is soon repeated."""
    in_order(GroupCoordinator._heartbeat_routine, "retry_backoff = self._retry_backoff_ms / 1000")
    in_order(GroupCoordinator._heartbeat_routine, "await asyncio.sleep(sleep_time)", "await self._do_heartbeat()")
    in_order(GroupCoordinator._heartbeat_routine, "else:", "sleep_time = retry_backoff")
    assert inspect.signature(GroupCoordinator).parameters["retry_backoff_ms"].default == 100


def test_who_loses_the_membership_lets_go_before_joining_again() -> None:
    """So whatever waits for the lease is told to give up before a new generation renews it."""
    in_order(
        GroupCoordinator.ensure_active_group,
        "await self._on_join_prepare(prev_assignment)",
        "await self._stop_heartbeat_task()",
        "await self._do_rejoin_group(subscription)",
    )
    in_order(GroupCoordinator._on_join_prepare, "listener.on_partitions_revoked(revoked)", "await res")


def test_the_group_is_joined_when_faust_subscribes() -> None:
    in_order(
        driver.AIOKafkaConsumerThread._create_worker_consumer,
        "return aiokafka.AIOKafkaConsumer( **consumer_kwargs, client_id=",
    )
    in_order(driver.AIOKafkaConsumerThread.subscribe, "_ensure_consumer().subscribe")


# -- tables


@pytest.fixture
def store(tmp_path: Path) -> Any:
    app = build_app(Settings(state_dir=tmp_path / "s", app="none"), RoundsApp)
    app.conf.datadir.mkdir()
    app.conf.appdir.mkdir()
    app.conf.tabledir.mkdir()
    states = FaustStates(app, 2, None)  # type: ignore[arg-type]  # nothing is sent
    return states._store


def record(offset: int, key: bytes, value: bytes | None) -> Any:
    return SimpleNamespace(offset=offset, key=key, value=value)


async def test_the_table_has_our_store_and_options_reach_rocksdb(store: Any) -> None:
    assert type(store) is StateStore
    assert store.use_rocksdict
    options: RocksDBOptions = store.rocksdb_options
    for name, value in ROCKSDB_OPTIONS.items():
        assert getattr(options, name) == value


async def test_the_changelog_is_taken_as_raw_bytes_with_its_offset(store: Any) -> None:
    store.take(1, [record(4, b"k", b"\xff1"), record(6, b"k", b"\xff2"), record(8, b"x", b""), record(9, b"x", None)])
    assert (store.read(1, b"k"), store.read(1, b"x")) == (b"\xff2", None)
    assert store.persisted_offset(TP("log", 1)) == 9
    assert (store.place(1, 10), store.place(1, 12)) == (10, 10)


async def test_a_database_that_has_seen_more_than_the_log_holds_is_kept_and_has_to_be_written_there(store: Any) -> None:
    store.write(1, {b"k": b"v"}, 41)
    store.write(0, {b"k": b"v"}, 41)
    assert (store.place(0, 42), store.place(1, 41)) == (42, 0)
    assert (store.read(0, b"k"), store.read(1, b"k")) == (b"v", b"v")
    assert store.persisted_offset(TP("log", 1)) is None
    assert store.homeless == {1}


async def test_our_write_and_theirs_agree_on_where_the_offset_is(store: Any) -> None:
    store.write(1, {b"k": b"v"}, 41)
    assert store.persisted_offset(TP("log", 1)) == 41
    store.set_persisted_offset(TP("log", 1), 42)
    assert store._db_for_partition(1).get(store.offset_key) == b"42"
    assert store.read(1, b"k") == b"v"
    assert store.offset_key == b"__faust\0offset__"


async def test_a_corrupt_database_says_corruption(store: Any) -> None:
    store.write(1, {b"k": b"v"}, 1)
    path = store.partition_path(1)
    await store.stop()
    current = path / "CURRENT"
    (path / current.read_text().strip()).write_bytes(b"\xde\xad\xbe\xef" * 40)
    with pytest.raises(Exception, match="Corruption"):
        Store._open_for_partition(store, 1)
    assert store.read(1, b"k") is None  # made anew; recovery fills it


# -- the whole


def test_a_failing_agent_crashes_the_worker() -> None:
    app = build_app(Settings(app="none"), RoundsApp)
    assert app.conf.agent_supervisor.__name__ == "CrashingSupervisor"
    # It leaves service.supervisor unset; a crash then goes up to the app.
    assert source(app.conf.agent_supervisor._contribute_to_service).endswith("pass")
    in_order(Service.crash, "if self.supervisor:", "self.supervisor.wakeup()", "else:", "child._crash(reason)")
    assert app.conf.processing_guarantee.name == "AT_LEAST_ONCE"


def test_a_transport_may_be_set_before_the_first_agent() -> None:
    assert isinstance(inspect.getattr_static(App, "transport"), property)
    assert inspect.getattr_static(App, "transport").fset is not None
    assert asyncio.iscoroutinefunction(Service.wait_first)
