"""What this project leans on inside aiokafka, and on how Faust uses that (see test_consumer_internals.py)."""

import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.errors import KafkaError
from aiokafka.producer import sender as aiokafka_sender
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.kafka.fetch import fetcher
from app.kafka.fetch.lenient_records import LenientBatch, LenientPartition
from tests.contract.stream.internals import in_order, source

READINGS = TP("readings", 0)


SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
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
    (GroupCoordinator._do_rejoin_group, ["self", "subscription"]),
]


@pytest.mark.parametrize(("method", "parameters"), SIGNATURES, ids=[method.__qualname__ for method, _ in SIGNATURES])
def test_signature(method: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


@pytest.mark.parametrize(
    ("package", "expected"),
    [("faust-streaming", "0.15.3"), ("aiokafka", "0.14.0")],
)
def test_the_versions_this_was_checked_against(package: str, expected: str) -> None:
    assert version(package) == expected
    assert f'"{package}' in (text := Path("pyproject.toml").read_text())
    assert f"=={expected}" in text


def test_what_fails_in_a_rebalance_comes_to_the_thread_which_aiokafka_lets_go_on() -> None:
    for method in (GroupCoordinator._on_join_prepare, GroupCoordinator._on_join_complete):
        in_order(method, "self._subscription.listener.on_partitions", "except Exception:", "log.exception(")
    consumer = faust_consumer.ThreadDelegateConsumer
    for method in (consumer.threadsafe_partitions_revoked, consumer.threadsafe_partitions_assigned):
        in_order(method, "promise = await self._method_queue.call(", "await promise")


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
    records = LenientPartition.__base__
    assert records is not None
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
    in_order(
        aiokafka_fetcher.Fetcher._proc_fetch_request,
        "records = MemoryRecords(",
        "partition_records = PartitionRecords(",
    )
    in_order(LenientBatch._read_msg, "buffer = self._buffer", 'h_key = buffer[pos : pos + h_key_len].decode("utf-8")')
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


def test_a_fetch_waits_as_long_as_the_client_was_set_to_before_its_start() -> None:
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source(aiokafka.AIOKafkaConsumer.start)
    assert "fetch_max_wait_ms=1500" in source(driver.AIOKafkaConsumerThread._create_worker_consumer)


def test_who_waits_for_records_is_woken_when_there_are_some() -> None:
    """fetcher.poll waits so, and takes nothing meanwhile."""
    create = aiokafka_fetcher.Fetcher._create_fetch_waiter
    in_order(
        create, "self._loop.create_future()", "self._fetch_waiters.add(fut)", "add_done_callback", "waiters.remove(f)"
    )
    routine = aiokafka_fetcher.Fetcher._fetch_requests_routine
    in_order(routine, "if has_new_data:", "for waiter in self._fetch_waiters:", "self._notify(waiter)")


async def test_a_poll_in_a_rebalance_takes_nothing_and_says_what_is_amiss() -> None:
    def refuse() -> None:
        raise KafkaError("not allowed")

    subscription = SimpleNamespace(reassignment_in_progress=True)
    client = SimpleNamespace(
        _closed=False, _subscription=subscription, _fetcher=SimpleNamespace(_subscriptions=subscription),
        _coordinator=SimpleNamespace(check_errors=lambda: None), assignment=set,
    )  # fmt: skip
    assert await fetcher.poll(client, "readings", 10, 1000, 0.01) == {}
    client._coordinator.check_errors = refuse
    with pytest.raises(KafkaError, match="not allowed"):
        await fetcher.poll(client, "readings", 10, 1000, 0.01)


def test_what_the_client_has_paused_it_does_not_fetch() -> None:
    in_order(
        aiokafka_fetcher.Fetcher._get_actions_per_node, "elif tp_state.paused:", "else:", "fetchable[node_id].append"
    )


def test_a_named_member_joins_under_its_name_and_does_not_leave() -> None:
    thread = driver.AIOKafkaConsumerThread
    assert "group_instance_id=conf.consumer_group_instance_id" in source(thread._create_worker_consumer)
    assert "self._coordinator._group_instance_id" in source(CoordinatorGroupRebalance.perform_group_join)
    assert "if self.generation > 0 and self._group_instance_id is None" in source(GroupCoordinator._maybe_leave_group)


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
    """A heartbeat sleeps by the loop's clock, which goes on while the process is stopped; after a failure, briefly."""
    in_order(GroupCoordinator._heartbeat_routine, "retry_backoff = self._retry_backoff_ms / 1000")
    in_order(GroupCoordinator._heartbeat_routine, "await asyncio.sleep(sleep_time)", "await self._do_heartbeat()")
    in_order(GroupCoordinator._heartbeat_routine, "else:", "sleep_time = retry_backoff")
    assert inspect.signature(GroupCoordinator).parameters["retry_backoff_ms"].default == 100


def test_who_loses_the_membership_lets_go_before_joining_again() -> None:
    """So whatever waits for the lease is interrupted before a new generation renews it."""
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
