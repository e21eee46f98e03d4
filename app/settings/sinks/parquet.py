"""Settings of the sink `parquet`."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import ExistingFile, PositiveFloat, PositiveInt, SecretFile

Place = Annotated[str, BeforeValidator(str)]  # a Path too


class ParquetSettings(BaseModel, frozen=True):
    """Directory, rotation, compression and compaction of Parquet files."""

    parquet_dir: Place = Field(".local/parquet", description="directory of the Parquet files, or s3://bucket/prefix")
    parquet_rotate_seconds: PositiveFloat = Field(3600.0, description="longest time until a row is in a file")
    parquet_rotate_bytes: PositiveInt = Field(
        48 << 20, description="memory of buffered rows, about 5 million, at which all of them are written to files"
    )
    parquet_compression: Literal["snappy", "zstd", "lz4", "none"] = Field(
        "snappy", description="compression of pages; zstd makes the smallest files"
    )
    parquet_encodings: bool = Field(
        True,
        description="with zstd: use DELTA_BINARY_PACKED and BYTE_STREAM_SPLIT, which old readers do not support",
    )
    parquet_compact_bytes: PositiveInt = Field(
        128 << 20, description="largest file that `iot-stream sink parquet --compact` makes of small files"
    )
    parquet_s3_endpoint: str | None = Field(
        None, description="server of s3://, if not AWS: http://minio:9000, https://host"
    )
    parquet_s3_region: str = Field("", description="region of the server; default: from AWS's own variables and files")
    parquet_s3_access_key: str | None = Field(
        None, description="access key of the account; default: AWS's own variables and files, the role of the machine"
    )
    parquet_s3_secret_key: SecretStr | None = Field(None, description="secret key of the account; never logged")
    parquet_s3_secret_key_file: SecretFile = Field(None, description="file that holds the secret key")
    parquet_s3_ca_file: ExistingFile = Field(None, description="CA certificates of the server, PEM")

    @property
    def parquet_s3_secret(self) -> str | None:
        """The secret key, from the file when one is named; None: there is none. Raises as `secret_files.read` does."""
        return secret_of(self.parquet_s3_secret_key_file, self.parquet_s3_secret_key)
