"""Whose edits of rules are compiled when."""

from typing import NamedTuple

from app.core.user_config.edit_pace import BATCH, FREE, EditPace, batches


class Edit(NamedTuple):
    user_id: str
    text: str | None
    number: int = 0


def test_small_edits_are_never_late() -> None:
    pace: EditPace[Edit] = EditPace()
    for number in range(1000):
        edits = [Edit("u", "x" * FREE, number), Edit("v", None, number)]
        assert pace.due(edits, 0.0) == edits


def test_a_user_with_large_edits_waits_and_the_last_one_counts() -> None:
    pace: EditPace[Edit] = EditPace()
    taken = []
    for tenth in range(1000):  # each 100 ms for 100 s
        now = tenth / 10
        edits = [Edit("mallory", "x" * 230_000, tenth), Edit("alice", "x" * 1000, tenth)]
        due = pace.due(edits, now)
        assert edits[1] in due  # whatever other users do
        taken += [one for one in due if one.user_id == "mallory"]
    assert 30 <= len(taken) <= 40  # of 1,000, each some 5 ms
    (last,) = [one for step in range(40) for one in pace.due([], 100 + step / 10)]
    assert last.number == 999
    assert pace.due([], 200.0) == []


def test_a_deletion_takes_its_turn_and_is_not_overtaken() -> None:
    pace: EditPace[Edit] = EditPace()
    pace.due([Edit("u", "x" * 100_000)], 0.0)
    assert pace.due([Edit("u", None)], 0.1) == []
    assert pace.due([], 10.0) == [Edit("u", None)]


def test_nobody_is_remembered_whose_time_is_paid() -> None:
    pace: EditPace[Edit] = EditPace()
    pace.due([Edit(f"u{n}", "x" * 10_000) for n in range(100)], 0.0)
    pace.due([], 1.0)
    assert (pace._free_at, pace._order, pace._waiting) == ({}, [], {})


def test_batches_are_all_of_it_in_its_order() -> None:
    edits = [Edit("u", "x" * size, size) for size in (0, 10, BATCH * 2, 5, BATCH // 2, BATCH // 2, 1)]
    found = list(batches(edits))
    assert [one for portion in found for one in portion] == edits
    assert [len(portion) for portion in found] == [2, 1, 2, 2]
    assert list(batches([])) == []
