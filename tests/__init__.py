"""Tests, benches and fault runs; DEFAULT is the schema of `IOT_SCHEMA_STRUCT` by default."""

from app.core.schema.schema import schema_of
from app.telemetry import Telemetry

DEFAULT = schema_of(Telemetry)
