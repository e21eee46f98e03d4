"""Settings of the sink `influx`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import ExistingCaFile, ExistingFile, KeyFile, PositiveFloat, PositiveInt, SecretFile, WebUrl


def _number(value: Any) -> Any:
    """The number of a text: values of the environment are texts."""
    return {"1": 1, "2": 2}.get(value, value) if isinstance(value, str) else value


InfluxVersion = Annotated[Literal[1, 2], BeforeValidator(_number)]
SequencePlace = Literal["none", "field", "tag"]
ExtraNumbers = Literal["float", "as_sent"]


class InfluxSettings(BaseModel, frozen=True):
    """The server that takes line protocol, and the mapping of readings to lines."""

    influx_url: WebUrl = Field(
        None, description="InfluxDB, VictoriaMetrics or QuestDB, `http://host:8086`; https: TLS; never logged"
    )
    influx_version: InfluxVersion | None = Field(
        None, description="2: `/api/v2/write`; 1: `/write`, as of InfluxDB 1.x; default: 1 with an account, else 2"
    )
    influx_org: str = Field("", description="organisation, for version 2")
    influx_bucket: Annotated[str, Field(min_length=1)] = Field(
        "iot", description="bucket of version 2; of version 1 the database, or `database/retention_policy`"
    )
    influx_token: SecretStr | None = Field(None, description="token; never logged")
    influx_token_file: SecretFile = Field(None, description="file that holds the token")
    influx_username: str = Field("", description="account of version 1 (basic authentication), instead of a token")
    influx_password: SecretStr | None = Field(None, description="password of the account; never logged")
    influx_password_file: SecretFile = Field(None, description="file that holds the password")
    influx_ca_file: ExistingCaFile = Field(None, description="CA certificates instead of the system's, PEM")
    influx_certificate_file: ExistingFile = Field(
        None, description="client certificate, if the server requires mTLS, PEM"
    )
    influx_key_file: KeyFile = Field(
        None, description="key of the client certificate; default: in the file of the certificate"
    )
    influx_measurement: Annotated[str, Field(min_length=1)] = Field(
        "telemetry",
        description="measurement of all lines; with `{user}` for the user id, types of fields are separate by user",
    )
    influx_sequence_id: SequencePlace = Field(
        "none", description="place of the sequence_id in a line; `tag` separates readings of equal device and time"
    )
    influx_extra_numbers: ExtraNumbers = Field(
        "float",
        description="numbers without a column: `float`, or `as_sent`: 3 is an integer, and a later 3.5 is refused",
    )
    influx_batch: PositiveInt = Field(5000, description="most lines of one request")
    influx_flush_ms: Annotated[float, Field(ge=0)] = Field(
        1000.0, description="longest time a line waits for a full request, milliseconds"
    )
    influx_gzip: bool = Field(False, description="compress requests with gzip")
    influx_timeout: PositiveFloat = Field(15.0, description="timeout of a request")

    @property
    def influx_protocol(self) -> InfluxVersion:
        """The version of the write API in use."""
        return self.influx_version or (1 if self.influx_username else 2)

    @property
    def influx_secret(self) -> str | None:
        """The token, from the file when one is named; None: there is none. Raises as `secret_files.read` does."""
        return secret_of(self.influx_token_file, self.influx_token)

    @property
    def influx_account_secret(self) -> str | None:
        """The password of version 1, from the file when one is named; None: there is none. Raises as
        `secret_files.read` does.
        """
        return secret_of(self.influx_password_file, self.influx_password)
