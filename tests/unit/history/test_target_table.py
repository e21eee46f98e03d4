"""Which names of tables are taken, and that a table of another database is another one."""

import pytest
from pydantic import SecretStr

from app.errors import PermanentError
from app.history.target_table import place_of, sql_name
from app.settings import Settings


@pytest.mark.parametrize(
    ("text", "name"), [("readings_again", '"readings_again"'), ("other.t1", '"other"."t1"'), ("user", '"user"')]
)
def test_a_plain_name_is_taken(text: str, name: str) -> None:
    assert sql_name(text) == name


@pytest.mark.parametrize("text", ["", "Readings", "a-b", 'a"b', "a.b.c", ".a", "a.", "1a", "a b", "x" * 64, "t;--"])
def test_any_other_is_refused(text: str) -> None:
    with pytest.raises(PermanentError, match="no name of a table"):
        sql_name(text)


def place(url: str) -> str:
    return place_of(Settings(database_url=SecretStr(url)), '"t"')


def test_a_table_is_named_with_its_database_and_no_secret() -> None:
    first = place("postgresql://ops:secret@db:5432/iot")
    assert first == place("postgresql://other:else@db:5432/iot")
    assert len({first, place("postgresql://ops@db:5432/again"), place("postgresql://ops@db2:5432/iot")}) == 3
    assert "secret" not in first + place("postgresql://ops@db/iot?password=secret&sslmode=require")
