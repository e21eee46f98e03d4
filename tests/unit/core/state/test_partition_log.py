"""Which log a partition has, by its topic's id, its end, and the record at the mark; what a commit is worth."""

import pytest
from msgspec import structs

from app.core.state.partition_log import (
    NAMELESS,
    NotedLog,
    PartitionLog,
    PresentLog,
    Verdict,
    commit_counts,
    judge,
    look_closer,
    note,
    noted,
    signature,
)

BEFORE = NotedLog(1, 300, 2, "topic", 1_000, 7)
NOW = PresentLog("topic", 0, 301, 7)


def test_a_note_is_read_as_it_was_written_also_by_an_older_program() -> None:
    assert noted(note(PartitionLog(2, "topic", 7), 300, 1_000)) == BEFORE
    assert noted(b"\x94\x01\x05\x00\xa1a") == NotedLog(1, 5, 0, "a")
    for garbage in (b"", b"300", b"\xff", b"\x94\x01\xa1x\x00\xa1a", b"\x91" * 5000):
        assert noted(garbage) is None


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (BEFORE, NOW, Verdict.SAME),
        (BEFORE, structs.replace(NOW, end=5_000, start=4_000), Verdict.SAME),  # retention
        (BEFORE, structs.replace(NOW, election=8, timestamp=1_000), Verdict.SAME),
        (BEFORE, structs.replace(NOW, election=8, timestamp=None), Verdict.SAME),  # not held any more
        (BEFORE, structs.replace(NOW, identity="other", end=5_000), Verdict.OTHER),
        (BEFORE, structs.replace(NOW, identity="other", end=0), Verdict.OTHER),
        (BEFORE, structs.replace(NOW, end=300), Verdict.CUT),
        (BEFORE, structs.replace(NOW, end=400, election=8, timestamp=2_000), Verdict.CUT),  # cut, and grown again
        (structs.replace(BEFORE, identity=NAMELESS), NOW, Verdict.SAME),  # the broker was made newer
        (structs.replace(BEFORE, identity=NAMELESS), structs.replace(NOW, timestamp=2_000), Verdict.OTHER),
        (structs.replace(BEFORE, identity=NAMELESS), structs.replace(NOW, end=10), Verdict.CUT),
        (NotedLog(1, 300, 0, ""), NOW, Verdict.SAME),  # what an older program has left belongs to what is there
        (NotedLog(1, 300, 0, ""), structs.replace(NOW, end=300), Verdict.CUT),
        (NotedLog(1, -1, 0, ""), structs.replace(NOW, end=0), Verdict.SAME),
    ],
)
def test_the_verdict(before: NotedLog, now: PresentLog, verdict: Verdict) -> None:
    log, why = judge(before, now)
    assert why is verdict
    assert log == PartitionLog(before.generation + (verdict is not Verdict.SAME), now.identity, now.election)


def test_the_record_is_looked_up_where_nothing_else_tells() -> None:
    assert not look_closer(BEFORE, NOW)
    assert look_closer(BEFORE, structs.replace(NOW, election=8))
    assert look_closer(structs.replace(BEFORE, identity=NAMELESS), NOW)
    assert not look_closer(BEFORE, structs.replace(NOW, election=8, start=301, end=400)), "the record is gone"
    assert not look_closer(structs.replace(BEFORE, timestamp=-1, election=3), NOW), "nobody knows how it was"


@pytest.mark.parametrize(
    ("metadata", "verdict", "counts"),
    [
        ("log=topic", Verdict.SAME, True),
        ("log=topic", Verdict.OTHER, True),  # back on the cluster it was committed on
        ("log=topic", Verdict.CUT, False),
        ("log=another", Verdict.SAME, False),  # written by one who had not noticed yet
        ("log=another", Verdict.OTHER, False),
        ("", Verdict.SAME, True),  # an operator's
        ("", Verdict.OTHER, False),
        ("", Verdict.CUT, False),
        ("log=-", Verdict.SAME, True),
        ("log=-", Verdict.OTHER, False),
        ("somebody's own words", Verdict.SAME, True),
    ],
)
def test_what_a_commit_is_worth(metadata: str, verdict: Verdict, counts: bool) -> None:
    assert commit_counts(metadata, PartitionLog(3, "topic"), verdict) is counts


def test_a_log_without_identity_signs_nothing() -> None:
    assert [signature(PartitionLog()), signature(PartitionLog(1, "topic"))] == ["", "log=topic"]
