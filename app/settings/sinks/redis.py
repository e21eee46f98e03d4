"""Settings of the sink `redis`."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.settings.secret_files import secret_of
from app.settings.sinks.redis_url import RedisUrl
from app.settings.values import (
    ExistingCaFile,
    ExistingFile,
    KeyFile,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretFile,
)


class RedisSettings(BaseModel, frozen=True):
    """The Redis server, and the keys, values and streams of the sink."""

    redis_url: RedisUrl = Field(
        None,
        description="`redis://[account:password@]host:6379/0`; rediss:// with TLS, unix:///path; the account "
        "percent-encoded; never logged",
    )
    redis_password_file: SecretFile = Field(None, description="file that holds the password, instead of the URL")
    redis_ca_file: ExistingCaFile = Field(None, description="CA certificates instead of the system's, PEM")
    redis_certificate_file: ExistingFile = Field(
        None, description="client certificate, if the server requires mTLS, PEM"
    )
    redis_key_file: KeyFile = Field(
        None, description="key of the client certificate; default: in the file of the certificate"
    )
    redis_prefix: Annotated[str, Field(max_length=100)] = Field("iot:", description="prefix of all keys")
    redis_ttl: NonNegativeInt = Field(0, description="TTL of last values and streams after a write, seconds; 0: none")
    redis_setback_seconds: Annotated[float, Field(ge=0)] = Field(
        300.0,
        description="after only older readings for this time a device's clock counts as set back, and its next reading "
        "is written; 0: never",
    )
    redis_stream_max: NonNegativeInt = Field(
        0, description="approximate length of the stream of a user, readings; 0: no streams"
    )
    redis_batch: PositiveInt = Field(2000, description="most readings of one call")
    redis_timeout: PositiveFloat = Field(5.0, description="timeout of a connection and of a call")

    @property
    def redis_secret(self) -> str | None:
        """The password, from the file when one is named; None: use the password of the URL. Raises as
        `secret_files.read` does.
        """
        return secret_of(self.redis_password_file, None)
