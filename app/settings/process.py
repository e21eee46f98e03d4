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

    metrics_host: Host = Field("127.0.0.1", description="address of /metrics, /live and /ready; all: 0.0.0.0 or ::")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(9000, description="its port; 0 takes a free one")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severe level logged")
    log_format: Literal["auto", "json", "human"] = Field("auto", description="auto: human on a terminal, else json")
