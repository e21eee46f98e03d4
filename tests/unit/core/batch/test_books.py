"""The books of a batch: what must balance, and every bug planted in this file is found."""

from collections.abc import Callable
from typing import Any

import pytest

from app.core.batch.books import Books, books
from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.batch.output import BatchOutput
from app.core.model.records import Reason, Rejected, Stage
from app.errors import BooksError
from tests.unit.records import NOW, Message

RECORDS = [Message(offset=n) for n in range(5, 15)]


def good() -> tuple[BatchOutput, WriteResult]:
    """Rows: 3 new, 1 duplicate, 1 refused. Effects: 1 done, 1 refused. 3 rejected: 10 records."""
    work = BatchOutput()
    work.rows += [("row",)] * 5
    work.sources += RECORDS[:5]
    work.effects += [Effect(Statement.UPSERT_CONFIG, ("u", "[]", None, NOW))] * 2
    work.effect_sources += RECORDS[5:7]
    work.rejected += [Rejected(one, Reason.BAD_JSON, Stage.DECODE, "x") for one in RECORDS[7:]]
    return work, WriteResult(3, 1, ((4, "no"),), ((1, "no"),))


def test_each_record_once() -> None:
    assert books(RECORDS, *good()) == Books(10, stored=4, duplicate=1, dead_lettered=5, dropped_by_policy=0)


def test_nothing_at_all() -> None:
    assert books([], BatchOutput(), WriteResult()) == Books(0, 0, 0, 0, 0)


def test_left_out_on_purpose() -> None:
    work, written = good()
    work.rejected.pop()
    work.dropped["silence"] = 1
    assert books(RECORDS, work, written).dropped_by_policy == 1


def test_a_log_with_gaps() -> None:
    records = [Message(offset=n) for n in (3, 4, 9)]
    work = BatchOutput()
    work.rows, work.sources = [("row",)] * 3, list(records)
    assert books(records, work, WriteResult(3)).stored == 3


def lose_a_row(work: BatchOutput) -> None:
    work.rows.pop()
    work.sources.pop()


def double_a_row(work: BatchOutput) -> None:
    work.rows.append(work.rows[0])
    work.sources.append(work.sources[0])


def forget_a_dead_letter(work: BatchOutput) -> None:
    work.rejected.pop()


def dead_letter_twice(work: BatchOutput) -> None:
    work.rejected.append(work.rejected[0])


def store_and_dead_letter(work: BatchOutput) -> None:
    work.rejected.append(Rejected(work.sources[0], Reason.BAD_JSON, Stage.DECODE, "x"))


def lose_one_and_double_another(work: BatchOutput) -> None:
    work.rows[0], work.sources[0] = work.rows[1], work.sources[1]


def take_one_for_another(work: BatchOutput) -> None:
    work.rejected[0] = Rejected(Message(offset=99), Reason.BAD_JSON, Stage.DECODE, "x")


def forget_where_a_row_comes_from(work: BatchOutput) -> None:
    work.sources.pop()


def lose_an_effect(work: BatchOutput) -> None:
    work.effects.pop(0)


def drop_what_is_there(work: BatchOutput) -> None:
    work.dropped["silence"] = 1


BUGS: list[Callable[[BatchOutput], None]] = [
    lose_a_row, double_a_row, forget_a_dead_letter, dead_letter_twice, store_and_dead_letter,
    lose_one_and_double_another, take_one_for_another, forget_where_a_row_comes_from, lose_an_effect,
    drop_what_is_there,
]  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_before_the_store_is_found(bug: Callable[[BatchOutput], None]) -> None:
    work, _ = good()
    bug(work)
    answer = WriteResult(len(work.rows))  # the store is not to blame
    with pytest.raises(BooksError, match="batch of 10 records from offset 5 do not balance"):
        books(RECORDS, work, answer)


ANSWERS: dict[str, dict[str, Any]] = {
    "a row too few": {"rows": 2},
    "a row too many": {"rows": 4},
    "duplicates below zero": {"rows": 5, "duplicates": -1},
    "one refused twice": {"rows": 2, "refused": ((4, "no"), (4, "no"))},
    "one refused that is not there": {"refused": ((5, "no"),)},
    "an effect refused twice": {"refused_effects": ((1, "no"), (1, "no"))},
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_wrong_answer_of_the_store_is_found(answer: dict[str, Any]) -> None:
    work, written = good()
    fields: dict[str, Any] = {
        "rows": written.rows,
        "duplicates": written.duplicates,
        "refused": written.refused,
    } | answer
    with pytest.raises(BooksError, match="do not balance"):
        books(RECORDS, work, WriteResult(**fields))
