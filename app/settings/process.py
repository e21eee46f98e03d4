"""Settings of a process: its disk, how long it waits, its log, its metrics, and where each program serves them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.runtime.addresses import HostPort
from app.settings.values import Host, PositiveFloat, WebUrl

# So that all programs of a fleet may run on one machine as they are. docs/metrics.md shows the table.
METRICS_PORTS: Mapping[str, int] = {
    "worker": 9000, "bridge": 9001, "notifier": 9002,
    "http": 9003, "tcp": 9004, "grpc": 9005, "quic": 9006,
    "sink-parquet": 9007, "sink-influx": 9008, "sink-redis": 9009, "sink-http_feed": 9010, "sink-grpc": 9011,
}  # fmt: skip

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a process listens, and where it is reached


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
        9000,
        description="port of /metrics, /health, /live and /ready; 0 takes a free port; not set, each program has its "
        "own: [metrics.md](metrics.md#ports)",
    )
    metrics_url: WebUrl = Field(
        None,
        description="where `doctor` and `top` find the worker's metrics, if not at the two above; `stack.env` of the "
        "local stack names its worker",
    )
    freshness_tenants: Annotated[int, Field(ge=0, le=200)] = Field(
        20, description="tenants with a series of their own in `iot_tenant_freshness_seconds`; the others share one"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severe level logged")
    log_format: Literal["auto", "json", "human"] = Field("auto", description="auto: human on a terminal, else json")


def metrics_port(settings: ProcessSettings, program: str) -> int:
    """The port of IOT_METRICS_PORT, else that of `program` of METRICS_PORTS; 0 stands for a free one."""
    return settings.metrics_port if "metrics_port" in settings.model_fields_set else METRICS_PORTS[program]


def worker_url(settings: ProcessSettings) -> str | None:
    """The address of the worker that these settings speak of, without /metrics; None: its port is 0, a free one."""
    if settings.metrics_url is not None:
        return settings.metrics_url.get_secret_value().rstrip("/").removesuffix("/metrics")
    host = _EVERY_ADDRESS.get(settings.metrics_host, settings.metrics_host)
    return f"http://{HostPort(host, settings.metrics_port)}" if settings.metrics_port else None
