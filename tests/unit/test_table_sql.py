"""The SQL made of the default struct is that of init.sql, which is tested on TimescaleDB where there is one."""

import re

from app.adapters.table import create
from app.core.columns import DEFAULT
from tests.conftest import INIT_SQL


def squeezed(sql: str) -> str:
    """Without quotes of names, and with single spaces."""
    return re.sub(r"\s+", " ", sql.replace('"', "")).replace("( ", "(").replace(" )", ")")


def test_the_table_and_the_hypertable_are_those_of_init_sql() -> None:
    made, written = squeezed(create(DEFAULT)), squeezed(INIT_SQL.read_text())
    table, hypertable = (
        re.search(pattern, made) for pattern in (r"CREATE TABLE .*?\);", r"SELECT create_hypertable\(.*?\)\$sql\$")
    )
    assert table
    assert table[0] in written
    assert hypertable
    assert hypertable[0] in written
