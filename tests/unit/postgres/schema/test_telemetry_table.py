"""The SQL made of the default struct is that of init.sql, which is tested on TimescaleDB where there is one."""

import re

from app.postgres.schema.telemetry_table import create
from tests import DEFAULT
from tests.conftest import INIT_SQL

ROOT = INIT_SQL.parent


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


def test_an_image_looks_where_the_guide_puts_a_struct() -> None:
    guide, image = (ROOT / "docs" / "adapting.md").read_text(), (ROOT / "Dockerfile").read_text()
    place = re.search(r"COPY mydata.py (\S+)/\n", guide)
    path = re.search(r"\bPYTHONPATH=(\S+)", image)
    assert place
    assert path
    assert place[1] == path[1]
