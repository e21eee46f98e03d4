"""Settings of the sink `parquet`."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import ExistingFile, PositiveFloat, PositiveInt, SecretFile

Place = Annotated[str, BeforeValidator(str)]  # a Path too


class ParquetSettings(BaseModel, frozen=True):
    """Where files go, how long one is written, and how it is compressed."""

    parquet_dir: Place = Field(".local/parquet", description="directory of the Parquet files, or s3://bucket/prefix")
    parquet_rotate_seconds: PositiveFloat = Field(3600.0, description="rows are in a file after so long at most")
    parquet_rotate_bytes: PositiveInt = Field(
        48 << 20, description="memory of rows that are in no file, 5 million or so; then all of them become files"
    )
    parquet_compression: Literal["snappy", "zstd", "lz4", "none"] = Field(
        "snappy", description="how its pages are compressed; zstd makes the smallest files"
    )
    parquet_encodings: bool = Field(
        True,
        description="with zstd: DELTA_BINARY_PACKED, BYTE_STREAM_SPLIT, which old readers do not know; false: neither",
    )
    parquet_compact_bytes: PositiveInt = Field(
        128 << 20, description="largest file that `iot-stream sink parquet --compact` makes of smaller ones"
    )
    parquet_s3_endpoint: str | None = Field(
        None, description="server of s3://, if it is not AWS: http://minio:9000, https://host"
    )
    parquet_s3_region: str = Field("", description="its region; default: what AWS's own variables and files say")
    parquet_s3_access_key: str | None = Field(
        None, description="its account; default: AWS's own variables and files, the role of the machine"
    )
    parquet_s3_secret_key: SecretStr | None = Field(None, description="secret key of the account; never logged")
    parquet_s3_secret_key_file: SecretFile = Field(None, description="file that holds the secret key")
    parquet_s3_ca_file: ExistingFile = Field(None, description="CA certificates of that server, PEM")

    @property
    def parquet_s3_secret(self) -> str | None:
        """The secret key, from the file when one is named; None: there is none. Raises as `secret_files.read` does."""
        return secret_of(self.parquet_s3_secret_key_file, self.parquet_s3_secret_key)
