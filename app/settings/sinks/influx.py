"""Settings of the sink `influx`."""

from pydantic import BaseModel, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import SecretFile, WebUrl


class InfluxSettings(BaseModel, frozen=True):
    """The server that takes line protocol."""

    influx_url: WebUrl = Field(None, description="InfluxDB, VictoriaMetrics or QuestDB, http://host:8086")
    influx_org: str = Field("", description="organisation, v2")
    influx_bucket: str = Field("iot", description="bucket of v2, database of v1")
    influx_token: SecretStr | None = Field(None, description="token of v2; never logged")
    influx_token_file: SecretFile = Field(None, description="file that holds the token")

    @property
    def influx_secret(self) -> str | None:
        """The token, from the file when one is named; None: there is none. Raises as `secret_files.read` does."""
        return secret_of(self.influx_token_file, self.influx_token)
