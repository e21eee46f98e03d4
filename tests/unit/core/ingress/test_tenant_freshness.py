"""How fresh the data of tenants is, whoever invents tenants."""

from datetime import UTC, datetime
from typing import Any

from app.core.ingress.tenant_freshness import (
    FORGET_SECONDS,
    HALF_LIFE,
    LOOKS,
    NEW_SECONDS,
    OF_A_BATCH,
    TENANTS,
    TenantFreshness,
)
from app.core.model.records import Row
from tests.unit.records import NOW_MS, Message

NOW = NOW_MS / 1000


class Worker:
    """Stores readings; time passes when a test says so."""

    def __init__(self, places: int = 3) -> None:
        self.freshness = TenantFreshness(places)
        self.clock, self.epoch = 1000.0, 1

    def stores(self, *tenants: str, age: float = 0.0, each: int = 3) -> None:
        """`each` readings of every tenant, which came in `age` seconds ago, in one batch each time."""
        taken = int((self.now - age) * 1000)
        rows: list[Row] = [(datetime.now(UTC), tenant, "d", 1) for tenant in tenants]
        sources = [Message(timestamp=NOW_MS, headers=(("ingest_ms", b"%d" % taken),)) for _ in rows]
        for _ in range(each):
            self.freshness.stored(self.epoch, rows, sources, self.clock, self.now)

    @property
    def now(self) -> float:
        return NOW + self.clock

    @property
    def shown(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in self.freshness.show(self.clock).items()}


def test_it_is_the_time_since_the_newest_reading_came_in() -> None:
    worker = Worker()
    worker.stores("a", age=7.5)
    worker.clock += 10
    assert worker.shown == {"a": 17.5}
    worker.stores("a", age=0.25)
    worker.stores("a", age=60.0)  # a replay, or a partition that is behind
    assert worker.shown == {"a": 0.25}


def test_the_clock_of_the_machine_may_be_set() -> None:
    worker = Worker()
    worker.stores("a", age=1.0)
    worker.clock += 4
    assert worker.shown == {"a": 5.0}
    worker.stores("a", age=-3600.0)  # the gateway's clock is ahead
    assert worker.shown == {"a": 0.0}


def test_named_are_those_with_most_readings_and_the_worst_of_the_rest_is_other() -> None:
    worker = Worker(places=2)
    worker.stores("busy", "busy", "busy", "often", "often", "seldom", "rarely")
    worker.clock += 5
    worker.stores("seldom")
    worker.stores("busy", "often", each=20)
    worker.clock += 1
    assert worker.shown == {"busy": 1.0, "often": 1.0, "other": 6.0}


def test_a_tenant_that_is_called_other() -> None:
    worker = Worker(places=1)
    worker.stores("other", each=10)
    worker.stores("a")
    assert worker.shown == {"other (a user)": 0.0, "other": 0.0}


def test_of_one_reading_nothing_is_said() -> None:
    worker = Worker()
    worker.stores("once", each=1)
    assert worker.shown == {}


def test_who_sends_no_more_is_gone_after_a_while() -> None:
    worker = Worker()
    worker.stores("gone", each=1000)
    worker.clock += FORGET_SECONDS - 1
    assert worker.shown == {"gone": FORGET_SECONDS - 1}
    worker.clock += 2
    assert worker.shown == {}


def test_a_worker_that_catches_up_says_how_old_the_data_is() -> None:
    worker = Worker()
    worker.stores("a", age=3 * FORGET_SECONDS)
    assert worker.shown == {"a": 3 * FORGET_SECONDS}


def test_what_was_long_ago_counts_for_less() -> None:
    worker = Worker(places=1)
    worker.stores("then", each=100)
    assert set(worker.shown) == {"then"}
    worker.clock += 2 * HALF_LIFE
    worker.stores("now", each=40)
    worker.clock += NEW_SECONDS
    worker.stores("now", "then")
    assert set(worker.shown) == {"now", "other"}


def test_another_epoch_knows_nothing_of_who_may_have_moved() -> None:
    worker = Worker()
    worker.stores("a", "b")
    worker.epoch += 1
    worker.clock += 100
    worker.stores("a")
    assert worker.shown == {"a": 0.0}


def test_who_invents_tenants_evicts_nobody_and_grows_nothing() -> None:
    worker = Worker(places=2)
    for _ in range(20):
        worker.clock += 1
        worker.stores("real", "true")
    worker.clock += NEW_SECONDS
    worker.stores("real", "true")
    for number in range(600):  # 15,000 tenants that are noticed, and one that sends more than anybody
        worker.clock += 0.05
        worker.stores(*(f"invented {number} {one}" for one in range(50)), *["flood"] * 14, each=1)
        if number % 20 == 0:
            worker.stores("real", "true", each=1)
    assert set(worker.shown) == {"real", "true", "other"}
    assert len(worker.freshness._tenants) <= 2 * TENANTS
    assert len(worker.freshness._readings.sums) <= TENANTS


def test_a_long_name_is_cut() -> None:
    worker = Worker()
    worker.stores("x" * 2000)
    assert set(worker.shown) == {"x" * 64}


class Looked(Message):
    """A record that notes when it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        if name == "headers":
            LOOKED.append(self)
        return super().__getattribute__(name)


LOOKED: list[Looked] = []


def test_a_busy_worker_looks_at_no_more_than_so_many() -> None:
    freshness, rows = TenantFreshness(3), [(datetime.now(UTC), f"t{one}", "d", 1) for one in range(200)]
    for turn in range(1000):  # of a second
        freshness.stored(1, rows, [Looked() for _ in rows], 1000 + turn / 1000, NOW)
    assert LOOKS < len(LOOKED) <= 2 * LOOKS


def test_all_of_a_small_batch_and_the_last_of_a_large_one_are_looked_at() -> None:
    worker = Worker(places=100)
    worker.stores(*(f"t{one}" for one in range(OF_A_BATCH)))
    assert len(worker.shown) == OF_A_BATCH
    worker.stores(*["x"] * 4999, "last")
    assert {"x", "last"} < set(worker.shown)


def test_nobody_is_named() -> None:
    worker = Worker(places=0)
    worker.stores("a")
    assert worker.shown == {}
