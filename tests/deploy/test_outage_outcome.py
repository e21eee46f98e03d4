"""The figures and the verdict of a run with a collector that is out of order."""

from dataclasses import replace

import pytest

from tools.bench.outage_outcome import Outcome, Sample, table


def run(growing: float = 0.0) -> Outcome:
    """An hour with a sample every 10 s; 40 MB come during the first 5 minutes, then `growing` MB an hour."""
    samples = [
        Sample(at, 100 + min(at, 300) / 300 * 40 + max(0, at - 300) / 3600 * growing, at * 0.05, at % 70, at * 2)
        for at in range(0, 3601, 10)
    ]
    return Outcome("hangs", 360_000, 360_000, 360_000, 360, samples)


def test_memory_is_compared_from_the_end_of_the_warm_up() -> None:
    assert run().growth == run().slope == 0
    assert run(60).slope == pytest.approx(60)
    # From the median of the minute after 300 s, 330 s, to that of the last minute, 3570 s.
    assert run(60).growth == pytest.approx(60 * (3570 - 330) / 3600)
    assert run(-60).growth < 0


def test_cpu_and_backlog_are_those_after_the_warm_up() -> None:
    late = replace(run(), samples=[one._replace(behind=900.0 if one.at < 300 else 3.0) for one in run().samples])
    assert late.behind == 3
    assert late.cpu == pytest.approx(3300 * 0.05)
    assert late.dropped == 7200


def test_a_short_run_has_a_third_of_it_for_the_warm_up() -> None:
    short = replace(run(), samples=[one for one in run().samples if one.at <= 180])
    assert (short.warm[0].at, short.warm[-1].at) == (60, 180)
    assert short.growth == pytest.approx((165 - 75) / 300 * 40)  # medians of 60 to 90 s and of 150 to 180 s


def raised(by: float) -> Outcome:
    """`by` MB more from the start on, and no other growth."""
    return replace(run(), samples=[one._replace(rss=one.rss + by) for one in run().samples])


REFERENCE = replace(run(), name="takes")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (replace(run(), messages=359_999, rows=359_999), "1 of 360,000 messages are not stored"),
        (replace(run(), rows=360_002), "2 messages are stored twice"),
        (run(30), "the memory grew by 27.0 MB more than takes, over 20.0"),
        (raised(25), "25.0 MB more memory at the end than takes, over 20.0"),
        (replace(run(), asked=0), "no span reached the collector"),
        (replace(run(), samples=[one._replace(dropped=0.0) for one in run().samples]), "no span was dropped"),
    ],
)
def test_what_is_wrong_is_said(outcome: Outcome, words: str) -> None:
    lines = outcome.wrong(REFERENCE, 20, outage=True)
    assert all(line.startswith("hangs: ") for line in lines)
    assert any(words in line for line in lines)
    assert len(lines) == (2 if "grew" in words else 1)  # what has grown has more at the end too


def test_growth_of_the_reference_too_is_none_of_the_outage() -> None:
    assert run(60).wrong(replace(run(60), name="takes"), 5, outage=True) == []


def test_nothing_is_wrong_with_a_flat_run() -> None:
    assert run().wrong(REFERENCE, 20, outage=True) == []
    assert (
        replace(run(), asked=None).wrong(REFERENCE, 20, outage=True) == []
    )  # nobody listens where connections are refused
    quiet = replace(run(), samples=[one._replace(dropped=0.0) for one in run().samples])
    assert quiet.wrong(REFERENCE, 20, outage=False) == []


def test_the_table_compares_the_cpu_with_that_of_the_first() -> None:
    twice = replace(run(), name="fails", asked=None, samples=[one._replace(cpu=one.cpu * 2) for one in run().samples])
    head, first, second = table([run(), twice]).splitlines()
    assert "MB 5 min" in head
    assert first.split()[0::8] == ["hangs", "1.00"]
    assert second.split()[-3:] == ["2.00", "7,200", "-"]
