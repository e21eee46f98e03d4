"""200,000 broken payloads; see tests/unit/fuzz.py."""

from tests.unit.fuzz import run

COUNT = 200_000


def test_broken_payloads() -> None:
    outcomes = run(COUNT, seed=2)
    assert outcomes.total() == COUNT
    assert outcomes["reading"] > COUNT / 10
