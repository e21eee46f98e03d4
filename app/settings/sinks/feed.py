"""Settings of the sink `http_feed`."""

from pydantic import BaseModel, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import PositiveFloat, PositiveInt, SecretFile, WebUrl


class FeedSettings(BaseModel, frozen=True):
    """The HTTP endpoint that readings are posted to."""

    feed_url: WebUrl = Field(None, description="readings are posted there; never logged")
    feed_token: SecretStr | None = Field(None, description="its X-Predictive-Ingest-Token; never logged")
    feed_token_file: SecretFile = Field(None, description="file that holds the token")
    feed_batch: PositiveInt = Field(200, description="most readings of one request")
    feed_flush_ms: PositiveFloat = Field(500.0, description="a reading waits so long at most for others, milliseconds")
    feed_queue: PositiveInt = Field(10_000, description="most readings in memory")

    @property
    def feed_secret(self) -> str | None:
        """The token, from the file when one is named; None: there is none. Raises as `secret_files.read` does."""
        return secret_of(self.feed_token_file, self.feed_token)
