"""What a reading measures: the one place to change for your own data (docs/adapting.md).

Each field is a column of raw_telemetry, made from the JSON field of its name or of `Fields(...)`; without `| None` it
is required. Whatever else a payload has goes into extra_data. The decoder, the rows, the SQL and its check follow.
"""

from msgspec import Struct

from app.core.schema.column_types import Int32


class Telemetry(Struct):
    """The schema of init.sql; IOT_SCHEMA_STRUCT=module:Struct takes another."""

    temperature: float | None = None
    battery: Int32 | None = None
