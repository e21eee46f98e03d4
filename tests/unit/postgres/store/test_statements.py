"""The table of statements: an entry for each that the core can ask for, with a name for each parameter."""

import re

import pytest

from app.core.batch.effects import Statement
from app.postgres.store.statements import STATEMENTS


def test_every_statement_has_an_entry() -> None:
    assert set(STATEMENTS) == set(Statement)


@pytest.mark.parametrize("statement", Statement)
def test_every_parameter_of_the_sql_is_named(statement: Statement) -> None:
    entry = STATEMENTS[statement]
    for sql in filter(None, (entry.sql, entry.together)):
        assert {int(number) for number in re.findall(r"\$(\d+)", sql)} == set(range(1, len(entry.parameters) + 1))
    assert entry.meaning
