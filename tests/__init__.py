"""Tests, benches and fault runs. All begin with the schema that `app.settings.load()` puts in force by default."""

from app.core.schema.schema import install_schema, schema_of
from app.telemetry import Telemetry

DEFAULT = schema_of(Telemetry)
install_schema(DEFAULT)
