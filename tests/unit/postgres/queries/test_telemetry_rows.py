"""Which names of tables are taken, and how SQL has them."""

import pytest

from app.errors import PermanentError
from app.postgres.queries.telemetry_rows import table_of


@pytest.mark.parametrize(
    ("text", "name"), [("readings_again", '"readings_again"'), ("other.t1", '"other"."t1"'), ("user", '"user"')]
)
def test_a_plain_name_is_taken(text: str, name: str) -> None:
    assert table_of(text).sql == name


@pytest.mark.parametrize("text", ["", "Readings", "a-b", 'a"b', "a.b.c", ".a", "a.", "1a", "a b", "x" * 64, "t;--"])
def test_any_other_is_refused(text: str) -> None:
    with pytest.raises(PermanentError, match="no name of a table"):
        table_of(text)
