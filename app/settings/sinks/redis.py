"""Settings of the sink `redis`."""

from pydantic import BaseModel, Field, SecretStr


class RedisSettings(BaseModel, frozen=True):
    """The server that keeps last values."""

    redis_url: SecretStr | None = Field(
        None, description="redis://host:6379/0; rediss:// with TLS; an account in it is never logged"
    )
