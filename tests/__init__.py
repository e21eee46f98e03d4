"""Tests, benches and fault runs. All begin with the schema that `app.settings.load()` puts in force by default."""

from app.core.schema.schema import schema_of, use
from app.telemetry import Telemetry

DEFAULT = schema_of(Telemetry)
use(DEFAULT)
