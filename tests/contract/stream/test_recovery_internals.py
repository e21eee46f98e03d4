"""What rebalance, recovery and the tables of this project lean on inside Faust (see test_consumer_internals.py)."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.app.base import App
from faust.stores.rocksdb import RocksDBOptions, Store
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.settings import Settings
from app.stream.faust_config import RoundsApp, build_app
from app.tables.device_table import FaustStates
from app.tables.rocksdb_store import ROCKSDB_OPTIONS, StateStore
from tests.contract.stream.internals import in_order

READINGS = TP("readings", 0)


SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (Store._open_for_partition, ["self", "partition"]),
    (Store._db_for_partition, ["self", "partition"]),
    (Store.partition_path, ["self", "partition"]),
    (Store.persisted_offset, ["self", "tp"]),
    (faust.Table._new_store, ["self"]),
    (TableManager.add, ["self", "table"]),
    (TableManager.on_commit, ["self", "offsets"]),
]


@pytest.mark.parametrize(("method", "parameters"), SIGNATURES, ids=[method.__qualname__ for method, _ in SIGNATURES])
def test_signature(method: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


@pytest.mark.parametrize("method", [Recovery.on_recovery_completed, Recovery._resume_streams])
def test_after_recovery_partitions_are_resumed_then_sought_then_the_flow(method: Any) -> None:
    """Partitions are active before they are placed: BatchConsumer hands over nothing before perform_seek."""
    in_order(method, "consumer.resume_partitions(", "consumer.perform_seek()", "flow_control.resume()", "resume_flow()")
    in_order(method, "self.app.consumer_generation_id != generation_id", "return", "perform_seek")


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


def test_a_revoke_stops_the_flow_clears_the_queues_and_then_waits() -> None:
    in_order(
        App._on_partitions_revoked,
        "consumer.stop_flow",
        "flow_control.suspend",
        "flow_control.clear",
        "self._consumer_wait_empty",
    )


def test_stopping_the_app_stops_the_flow_before_it_waits() -> None:
    in_order(App._stop_consumer, "stop_flow()", "flow_control.suspend()", "flow_control.clear()", "wait_empty")


def test_sensors_hear_of_each_part_of_a_rebalance() -> None:
    in_order(driver.ConsumerRebalanceListener.on_partitions_revoked, "app.on_rebalance_start()")
    in_order(App.on_rebalance_start, "self._rebalancing_sensor_state = self.sensors.on_rebalance_start(self)")
    in_order(App.on_rebalance_return, "self.sensors.on_rebalance_return(self, sensor_state)")
    in_order(App.on_rebalance_end, "self.sensors.on_rebalance_end(self, sensor_state)")
    in_order(faust_consumer.Consumer.on_partitions_assigned, "self.app.on_rebalance_return()")
    in_order(Recovery.on_recovery_completed, "self.app.on_rebalance_end()")
    in_order(faust_consumer.Consumer.track_message, "self._on_message_in(message.tp, message.offset, message)")


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
