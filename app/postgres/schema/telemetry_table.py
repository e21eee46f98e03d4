"""raw_telemetry, and tables of its shape, as a schema asks for them: the SQL of the table, and how the table of the
database differs.
"""

from collections.abc import Sequence

from msgspec import Struct

from app.core.schema.column_types import KEY, Column
from app.core.schema.schema import Schema
from app.postgres.connect import Connection

TABLE = "raw_telemetry"
# As in init.sql, which does the rest (columnstore, retention, rights) and takes an existing table as it is.
_HYPERTABLE = """DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
    EXECUTE $sql$SELECT create_hypertable('{table}', by_range('time', INTERVAL '1 day'),
      create_default_indexes => false, if_not_exists => true, migrate_data => true)$sql$;
  ELSE
    RAISE NOTICE 'TimescaleDB is not in this database: {table} is a plain table';
  END IF;
END $$;"""
# numeric(10,2) and timestamptz(0) round silently, so their names are compared with the brackets.
_THERE = """SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, atthasdef OR attidentity <> ''
    FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_UNIQUE = """SELECT array_agg(attname::text) FROM pg_index JOIN pg_attribute ON attrelid = indrelid
    AND attnum = ANY (indkey) WHERE indrelid = $1::text::regclass AND indisunique AND indisvalid
    AND indpred IS NULL GROUP BY indexrelid"""
_TYPES = {"timestamptz": "timestamp with time zone"}  # what format_type calls them
# Types that hold every value of the other type just as well, or refuse the value; varchar(20) too.
_AS_GOOD = {
    "smallint": ("integer", "bigint"),
    "integer": ("bigint",),
    "text": ("character varying",),
}


class Difference(Struct, frozen=True):
    """A difference that keeps rows from being stored as the struct says; `cure` is SQL, or what else to do."""

    column: str
    what: str
    cure: str

    @property
    def loosens(self) -> bool:
        """Whether the cure rewrites nothing and refuses nothing that was taken before."""
        return "ADD COLUMN" in self.cure or "DROP NOT NULL" in self.cure


def create(schema: Schema, table: str = TABLE) -> str:
    """The SQL of the whole table, for a database that has none."""
    lines = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = next((one for one in schema.columns if one.name == name), None)
        rest = "" if column and not column.required else " NOT NULL"
        lines.append(f'  "{name}" {kind}{rest}' + (" DEFAULT '{}'::jsonb" if kind == "jsonb" else ""))
    lines.append(f"  PRIMARY KEY ({', '.join(KEY)})")
    body = ",\n".join(lines)
    return f"CREATE TABLE IF NOT EXISTS {table} (\n{body}\n);\n{_HYPERTABLE.replace('{table}', table)}\n"


async def exists(connection: Connection, table: str = TABLE) -> bool:
    """Whether there is a table at all. Raises sqlstate.DATABASE_ERRORS."""
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table))


async def keeps_rows_once(connection: Connection, table: str = TABLE) -> bool:
    """Whether the table has a unique index on the key of a row. Raises sqlstate.DATABASE_ERRORS."""
    return set(KEY) in [set(row[0]) for row in await connection.fetch(_UNIQUE, table)]


async def differences(connection: Connection, schema: Schema, table: str = TABLE) -> Sequence[Difference]:
    """Every difference that matters, in the order of the columns. Raises sqlstate.DATABASE_ERRORS.

    Columns of the table that the schema does not have are left alone, unless they must have a value.
    """
    if not await exists(connection, table):
        return [Difference("", f"the table {table} is missing", "iot-stream db init")]
    there = {name: (kind, filled, default) for name, kind, filled, default in await connection.fetch(_THERE, table)}
    own = {column.name: column for column in schema.columns}
    found = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        if one := _difference(table, name, kind, own.get(name), there.pop(name, None)):
            found.append(one)
    for name, (_, filled, default) in there.items():
        if filled and not default:
            what = f"{table} wants a value for {name}, which {schema.name} does not have"
            found.append(Difference(name, what, _alter(table, f'ALTER COLUMN "{name}" DROP NOT NULL')))
    return found


async def add_missing(connection: Connection, schema: Schema) -> Sequence[Difference]:
    """Take the cures that loosen the table, and return these differences. Raises sqlstate.DATABASE_ERRORS."""
    found = [one for one in await differences(connection, schema) if one.loosens]
    for one in found:
        await connection.execute(one.cure)
    return found


def _difference(
    table: str, name: str, kind: str, column: Column | None, there: tuple[str, bool, bool] | None
) -> Difference | None:
    kind = _TYPES.get(kind, kind)
    if there is None:
        default = " NOT NULL DEFAULT '{}'::jsonb" if kind == "jsonb" else ""
        return Difference(name, f"{table} has no column {name}", _alter(table, f'ADD COLUMN "{name}" {kind}{default}'))
    found, filled, _ = there
    if found != kind and found.partition("(")[0] not in _AS_GOOD.get(kind, ()):
        cure = _alter(table, f'ALTER COLUMN "{name}" TYPE {kind} USING "{name}"::{kind}')
        return Difference(name, f"{table}.{name} is {found}, not {kind}", f"{cure} -- or change the struct")
    if column and not column.required and filled:
        what = f"{table}.{name} is NOT NULL, and readings may lack it"
        return Difference(name, what, _alter(table, f'ALTER COLUMN "{name}" DROP NOT NULL') + " -- or drop `| None`")
    return None


def _alter(table: str, change: str) -> str:
    return f"ALTER TABLE {table} {change};"
