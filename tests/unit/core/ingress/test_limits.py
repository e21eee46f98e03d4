"""Limits of what a user and a device may bring in."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ingress import limits as ingress
from app.core.ingress.heavy_hitters import COUNTERS, HeavyHitters
from app.core.ingress.limits import Ingress, IngressLimits


def admitted(made: Ingress, count: int, now: float, user: str = "u", device: str | None = "d", size: int = 100) -> int:
    """How many of so many equal messages may come in."""
    return sum(made.fault(user, device, size, now) is None for _ in range(count))


def test_without_limits_there_is_nothing_to_ask() -> None:
    assert not Ingress(IngressLimits())
    assert Ingress(IngressLimits(device_bytes=1))


def test_a_burst_and_then_the_rate() -> None:
    made = Ingress(IngressLimits(user_messages=5, burst=4))
    assert admitted(made, 100, 1000.0) == 20
    assert admitted(made, 100, 1000.0) == 0
    assert admitted(made, 100, 1001.0) == 5
    assert admitted(made, 100, 1001.0, user="other") == 20, "each has his own"
    assert admitted(made, 100, 9000.0) == 20, "no more than a burst is saved"


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(0.1, 20),
    sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=50),
    in_bytes=st.booleans(),
)
def test_after_the_wait_it_may_come_in_and_not_much_sooner(
    rate: float, burst: float, sizes: list[int], in_bytes: bool
) -> None:
    limits = IngressLimits(user_bytes=rate, burst=burst) if in_bytes else IngressLimits(user_messages=rate, burst=burst)
    made, now = Ingress(limits), 1000.0
    for size in sizes:
        wait = made.wait("u", None, size, now)
        if made.fault("u", None, size, now) is None:
            assert wait == 0.0
            continue
        assert wait > 0.0
        assert made.wait("u", None, size, now + wait * 0.9 - 0.001) > 0.0
        assert made.fault("u", None, size, now + wait + 1e-6) is None
        now += wait + 1e-6


def test_bytes_count_likewise_and_one_larger_than_the_burst_passes_when_nothing_is_owed() -> None:
    made = Ingress(IngressLimits(user_bytes=1000, burst=2))
    assert admitted(made, 100, 0.0, size=300) == 6
    assert admitted(made, 1, 1.0, size=5000) == 0, "800 bytes are owed"
    assert admitted(made, 1, 100.0, size=5000) == 1
    assert admitted(made, 1, 102.5, size=1) == 0
    assert admitted(made, 1, 103.1, size=1) == 1


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (IngressLimits(user_messages=1, burst=1), "IOT_INGRESS_USER_MESSAGES"),
        (IngressLimits(user_bytes=100, burst=1), "IOT_INGRESS_USER_BYTES"),
        (IngressLimits(device_messages=1, burst=1), "IOT_INGRESS_DEVICE_MESSAGES"),
        (IngressLimits(device_bytes=100, burst=1), "IOT_INGRESS_DEVICE_BYTES"),
    ],
)
def test_what_is_refused_names_the_limit_and_costs_the_sender_nothing(limits: IngressLimits, words: str) -> None:
    made = Ingress(limits)
    assert made.fault("u", "d", 100, 0.0) is None
    for _ in range(50):
        assert words in (made.fault("u", "d", 100, 0.5) or "")
    assert made.fault("u", "d", 100, 1.01) is None


def test_a_device_over_its_limit_takes_nothing_from_its_user_s() -> None:
    made = Ingress(IngressLimits(user_messages=10, device_messages=1, burst=1))
    assert admitted(made, 100, 0.0, device="loud") == 1
    assert sum(admitted(made, 1, 0.0, device=f"d{n}") for n in range(20)) == 9
    assert admitted(made, 1, 0.0, device=None, user="other") == 1, "a message of no device has its user's limits alone"


@given(st.integers(0, 2**32), st.floats(0.5, 50), st.floats(0.1, 20))
def test_never_more_than_the_burst_and_the_rate(seed: int, rate: float, burst: float) -> None:
    chance = random.Random(seed)
    made, now, count = Ingress(IngressLimits(device_messages=rate, burst=burst)), 0.0, 0
    for _ in range(300):
        now += chance.expovariate(rate * 3)
        count += made.fault("u", "d", 1, now) is None
        assert count <= rate * (burst + now) + 1
    assert count >= min(300, rate * min(burst, now)) - 1


def test_memory_is_bounded_whatever_ids_are_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "MOST", 4096)
    made = Ingress(IngressLimits(user_messages=1, device_messages=1, burst=1000))
    tracemalloc.start()
    for n in range(4 * ingress.MOST):
        made.fault(f"user {n}" + "x" * 1000, f"device {n}", 1, n / 1e6)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.remembered <= 2 * ingress.MOST
    assert used < 40 * 16 * ingress.MOST, "40 MB with the MOST that there is"


def test_who_counts_for_most_is_known_among_made_up_names() -> None:
    sums, chance = HeavyHitters(), random.Random(7)
    for n in range(50_000):
        sums.add(f"made up {n}", 1)
        if chance.random() < 0.2:
            sums.add("loud", 2)
        if chance.random() < 0.05:
            sums.add("busy", 1)
    assert [name for name, _ in sums.top(2)] == ["loud", "busy"]
    assert len(sums.top(10**6)) <= COUNTERS
    assert 0 < sums.total - sum(amount for _, amount in sums.top(20)) < sums.total
