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
    """The server that keeps last values, and how they are kept."""

    redis_url: RedisUrl = Field(
        None,
        description="`redis://[account:password@]host:6379/0`; rediss:// with TLS, unix:///path; the account "
        "percent-encoded; never logged",
    )
    redis_password_file: SecretFile = Field(None, description="file that holds the password, instead of the URL")
    redis_ca_file: ExistingCaFile = Field(None, description="CA certificates instead of the system's, PEM")
    redis_certificate_file: ExistingFile = Field(None, description="own certificate, if the server asks for one, PEM")
    redis_key_file: KeyFile = Field(None, description="its key; default: in the file of the certificate")
    redis_prefix: Annotated[str, Field(max_length=100)] = Field(
        "iot:", description="what the names of its keys begin with"
    )
    redis_ttl: NonNegativeInt = Field(
        0, description="a last value, and a stream, is forgotten so many seconds after it was written; 0: never"
    )
    redis_setback_seconds: Annotated[float, Field(ge=0)] = Field(
        300.0,
        description="a device that has sent only older readings for so long had its clock set back: the next one is "
        "taken; 0: never",
    )
    redis_stream_max: NonNegativeInt = Field(
        0, description="about how many readings the stream of a user keeps; 0: no streams"
    )
    redis_batch: PositiveInt = Field(2000, description="most readings of one call")
    redis_timeout: PositiveFloat = Field(5.0, description="longest a connection or a call may take")

    @property
    def redis_secret(self) -> str | None:
        """The password, from the file when one is named; None: that of the URL counts. Raises as `secret_files.read`
        does.
        """
        return secret_of(self.redis_password_file, None)
