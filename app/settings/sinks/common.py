"""Settings that every sink has: which run, what they are given, how much they keep in memory, how many series."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_settings import NoDecode

from app.core.model.records import Kind
from app.settings.values import NonNegativeInt, PositiveFloat, PositiveInt


def _names(value: Any) -> Any:
    """`a,b` in the environment, a list in TOML, or the names of the tables [sinks.NAME]."""
    if isinstance(value, str):
        return tuple(name for part in value.split(",") if (name := part.strip()))
    return tuple(value)


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
Kinds = Annotated[tuple[Kind, ...], NoDecode, BeforeValidator(_names)]


class SinkSettings(BaseModel, frozen=True):
    """What the runner of a sink reads; a table [sinks.NAME] has the same names without `sink_`, for one instance."""

    sinks: Names = Field(
        (),
        description="which sinks run, `parquet,redis`: kinds, or names of tables [sinks.NAME] of the TOML file; "
        "see [sinks.md](sinks.md)",
    )
    sink_kinds: Kinds = Field(
        (Kind.TELEMETRY,), description="kinds of records that a sink is given, `telemetry,status`"
    )
    sink_users: Names = Field(("*",), description="their users or nodes, ids and globs, `alice,eu-*`")
    sink_devices: Names = Field(("*",), description="their devices or sensors, ids and globs")
    sink_keys: Names = Field(
        ("*",), description="fields of a reading that it is given, names and globs; one without any is left out"
    )
    sink_client_id: str = Field("iot-sink-1", description="name of this process at Kafka, before that of the sink")
    sink_instance_id: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$")] = Field(
        None,
        description="name of this process alone: back within the session timeout, its sinks have their partitions back",
    )
    sink_start: Literal["earliest", "latest"] = Field(
        "earliest",
        description="where a sink begins that has never committed: with what Kafka holds, or what is new",
    )
    sink_buffer_bytes: PositiveInt = Field(
        64 << 20, description="memory of records that the destination has not taken; then nothing is read"
    )
    sink_retry_max: PositiveFloat = Field(
        30.0, description="longest between two tries while the destination is away, seconds"
    )
    sink_breaker_failures: PositiveInt = Field(5, description="so many failures in a row open its circuit")
    sink_cardinality_max: NonNegativeInt = Field(
        100_000, description="most series (user, device, field) of a sink; new ones beyond are dropped; 0: no limit"
    )
    sink_cardinality_tenant_max: NonNegativeInt = Field(
        100_000, description="most of them of one user; 0: no limit of its own"
    )
    sink_cardinality_policy: Literal["drop", "count"] = Field(
        "drop", description="what becomes of a new series beyond that; a known one is never dropped"
    )
