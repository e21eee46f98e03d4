"""Settings of the database, and of the batches that are stored there."""

from typing import Annotated

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from app.settings import secret_files
from app.settings.values import CaFile, CertificateFile, DatabaseUrl, KeyFile, PositiveFloat, PositiveInt, SecretFile


class DatabaseSettings(BaseModel, frozen=True):
    """How the database is reached, and how much goes into a write."""

    database_url: DatabaseUrl = Field(
        SecretStr("postgresql://iot@127.0.0.1:5432/iot"),
        description="URL of PostgreSQL or TimescaleDB; a password in the URL is percent-encoded; never logged",
    )
    database_password_file: SecretFile = Field(None, description="file that holds the password, instead of the URL")
    database_tls: bool = Field(
        False, description="TLS to the database, certificate and name verified; false: what sslmode of the URL says"
    )
    database_ca_file: CaFile = Field(None, description="CA certificates instead of the system's, PEM")
    database_certificate_file: CertificateFile = Field(None, description="own certificate, if the database asks for it")
    database_key_file: KeyFile = Field(None, description="key of the certificate; default: in the certificate's file")
    batch_max_rows: PositiveInt = Field(5000, description="most records in one batch")
    batch_max_bytes: PositiveInt = Field(1 << 20, description="most payload bytes in one batch")
    batch_alerts_max_bytes: PositiveInt = Field(
        8 << 20, description="estimated memory of its alerts with which a batch ends early; the rest is the next batch"
    )
    buffer_max_bytes: PositiveInt = Field(
        64 << 20, description="most memory fetched and not yet stored records may take"
    )
    copy_min_rows: PositiveInt = Field(500, description="batches from this size on are stored with COPY")
    direct_copy_min_rows: Annotated[int, Field(ge=0)] = Field(
        100, description="rows from this number on go straight into the table while no duplicates are met; 0: never"
    )
    writes_in_flight: PositiveInt = Field(3, description="database writes under way at once, one per partition")
    database_timeout: PositiveFloat = Field(60.0, description="longest a statement may take")
    database_statement_cache: bool = Field(
        True, description="keep prepared statements and temp tables; false behind PgBouncer in transaction mode"
    )
    breaker_failures: PositiveInt = Field(5, description="consecutive failures that open the circuit breaker")
    breaker_reset_min: PositiveFloat = Field(5.0, description="first wait of the open breaker")
    breaker_reset_max: PositiveFloat = Field(
        60.0, validate_default=True, description="longest wait of the open breaker"
    )
    breaker_probe: Annotated[float, Field(ge=0)] = Field(
        1.0, description="how often an open breaker asks whether the database is back; 0: only its wait ends"
    )
    late_after: PositiveFloat | None = Field(
        None, description="rows older than this are stored apart; default: what the columnstore policy leaves alone"
    )
    late_batch_rows: PositiveInt = Field(1000, description="most late rows in one transaction")

    @field_validator("breaker_reset_max")
    @classmethod
    def _not_below_the_first_wait(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("breaker_reset_min", 0.0):
            raise ValueError("must not be below IOT_BREAKER_RESET_MIN")
        return value

    @property
    def database_password(self) -> str | None:
        """The password in the password file; None without such a file: asyncpg then takes the password from the URL.

        Read anew at each call. Raises OSError when the file cannot be read, ValueError when it is no UTF-8.
        """
        return secret_files.read(self.database_password_file) if self.database_password_file else None
