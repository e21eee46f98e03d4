"""A table of another database is another one."""

from pydantic import SecretStr

from app.history.target_table import place_of
from app.settings import Settings


def place(url: str) -> str:
    return place_of(Settings(database_url=SecretStr(url)), '"t"')


def test_a_table_is_named_with_its_database_and_no_secret() -> None:
    first = place("postgresql://ops:secret@db:5432/iot")
    assert first == place("postgresql://other:else@db:5432/iot")
    assert len({first, place("postgresql://ops@db:5432/again"), place("postgresql://ops@db2:5432/iot")}) == 3
    assert "secret" not in first + place("postgresql://ops@db/iot?password=secret&sslmode=require")
