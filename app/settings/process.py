"""Settings of a process: its disk, how long it waits, its metrics and its log."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.settings.values import Host, PositiveFloat


class ProcessSettings(BaseModel, frozen=True):
    """What a program needs of its machine."""

    state_dir: Path = Field(
        Path(".local/state"), description="RocksDB tables of this worker; not shared between workers"
    )
    watchdog_seconds: PositiveFloat = Field(
        120.0, description="an offset stuck this long with no work ends the process"
    )
    shutdown_timeout: PositiveFloat = Field(8.0, description="longest a stop or rebalance waits for running writes")

    lag_warning_seconds: Annotated[float, Field(ge=0)] = Field(
        10.0, description="the log says so while a record waits for longer in its partition; 0: never"
    )

    metrics_host: Host = Field(
        "127.0.0.1", description="address of /metrics, /health, /live and /ready; all: 0.0.0.0 or ::"
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        9000, description="port of /metrics, /health, /live and /ready; 0 takes a free port"
    )
    freshness_tenants: Annotated[int, Field(ge=0, le=200)] = Field(
        20, description="tenants with a series of their own in `iot_tenant_freshness_seconds`; the others share one"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severe level logged")
    log_format: Literal["auto", "json", "human"] = Field("auto", description="auto: human on a terminal, else json")
