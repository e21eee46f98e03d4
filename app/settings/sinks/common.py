"""Settings of every sink: which sinks run, the filters of records, the limits of memory and of series."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_settings import NoDecode

from app.core.model.records import Kind
from app.settings.values import Names, NonNegativeInt, PositiveFloat, PositiveInt, names

Kinds = Annotated[tuple[Kind, ...], NoDecode, BeforeValidator(names)]


class SinkSettings(BaseModel, frozen=True):
    """Settings of the runner of a sink; a table [sinks.NAME] has the same names without `sink_`, for one instance."""

    sinks: Names = Field(
        (),
        description="sinks to run, `parquet,redis`: kinds, or names of tables [sinks.NAME] of the TOML file; "
        "see [sinks.md](sinks.md)",
    )
    sink_kinds: Kinds = Field(
        (Kind.TELEMETRY,), description="kinds of records that a sink is given, `telemetry,status`"
    )
    sink_users: Names = Field(
        ("*",), description="users or nodes whose records a sink is given, ids and globs, `alice,eu-*`"
    )
    sink_devices: Names = Field(("*",), description="devices or sensors whose records a sink is given, ids and globs")
    sink_keys: Names = Field(
        ("*",),
        description="fields of a reading that a sink is given, names and globs; a reading without any is dropped",
    )
    sink_client_id: str = Field(
        "iot-sink-1", description="Kafka client id of this process; the sink's name is appended"
    )
    sink_instance_id: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$")] = Field(
        None,
        description="unique name of this process: after a restart within the session timeout its sinks keep their "
        "partitions",
    )
    sink_start: Literal["earliest", "latest"] = Field(
        "earliest",
        description="first offset of a sink without a committed offset: the start or the end of the log",
    )
    sink_buffer_bytes: PositiveInt = Field(
        64 << 20, description="most memory of records that are not written; above it nothing is read"
    )
    sink_retry_max: PositiveFloat = Field(
        30.0, description="longest wait between two tries while the destination is unavailable, seconds"
    )
    sink_breaker_failures: PositiveInt = Field(5, description="consecutive failures that open the circuit of a sink")
    sink_cardinality_max: NonNegativeInt = Field(
        100_000, description="most series (user, device, field) of a sink; further new series are dropped; 0: no limit"
    )
    sink_cardinality_tenant_max: NonNegativeInt = Field(
        100_000, description="most series of one user at a sink; 0: no limit per user"
    )
    sink_cardinality_policy: Literal["drop", "count"] = Field(
        "drop", description="whether new series over a limit are dropped or only counted; known series always pass"
    )
