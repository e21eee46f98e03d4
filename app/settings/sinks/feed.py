"""Settings of the sink `http_feed`."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import ExistingCaFile, ExistingFile, KeyFile, PositiveFloat, PositiveInt, SecretFile, WebUrl

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
FeedFormat = Literal["json", "ndjson"]


class FeedSettings(BaseModel, frozen=True):
    """The HTTP endpoint that readings are posted to."""

    feed_url: WebUrl = Field(None, description="URL that readings are posted to; never logged")
    feed_token: SecretStr | None = Field(None, description="token in the header of each request; never logged")
    feed_token_file: SecretFile = Field(None, description="file that holds the token")
    feed_token_header: HeaderName = Field(
        "X-Predictive-Ingest-Token", description="header of the token; `Authorization`: as a bearer token"
    )
    feed_ca_file: ExistingCaFile = Field(None, description="CA certificates instead of the system's, PEM")
    feed_certificate_file: ExistingFile = Field(
        None, description="client certificate, if the receiver requires mTLS, PEM"
    )
    feed_key_file: KeyFile = Field(
        None, description="key of the client certificate; default: in the file of the certificate"
    )
    feed_batch: PositiveInt = Field(200, description="most readings of one request")
    feed_flush_ms: Annotated[float, Field(ge=0)] = Field(
        500.0, description="longest time a reading waits for a full batch, milliseconds"
    )
    feed_queue: PositiveInt | None = Field(
        None, description="most readings in memory; at this number nothing is read; default: four batches"
    )
    feed_requests: PositiveInt = Field(
        1, description="concurrent requests, among which devices are divided; 1 keeps the order of all readings"
    )
    feed_format: FeedFormat = Field(
        "json", description="format of a body: `json`, an array; `ndjson`, one reading per line"
    )
    feed_gzip: bool = Field(False, description="compress bodies, Content-Encoding: gzip")
    feed_timeout: PositiveFloat = Field(10.0, description="timeout of a request, its answer included")

    @property
    def feed_secret(self) -> str | None:
        """The token, from the file when one is named; None: there is none. Raises as `secret_files.read` does."""
        return secret_of(self.feed_token_file, self.feed_token)
