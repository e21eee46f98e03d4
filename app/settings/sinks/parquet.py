"""Settings of the sink `parquet`."""

from typing import Literal

from pydantic import BaseModel, Field

from app.settings.values import PositiveFloat


class ParquetSettings(BaseModel, frozen=True):
    """Where files go, how long one is written, and how it is compressed."""

    parquet_dir: str = Field(".local/parquet", description="directory of the Parquet files, or s3://bucket/prefix")
    parquet_rotate_seconds: PositiveFloat = Field(3600.0, description="a file is closed after so long at most")
    parquet_compression: Literal["snappy", "zstd", "lz4", "none"] = Field(
        "snappy", description="how its pages are compressed"
    )
