"""Settings of the sink `grpc`."""

from pydantic import BaseModel, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import SecretFile


class GrpcPushSettings(BaseModel, frozen=True):
    """The receiver of proto/events.proto that readings are pushed to."""

    grpc_push_target: str | None = Field(None, description="readings are pushed there: host:port, or unix:///path")
    grpc_push_token: SecretStr | None = Field(None, description="bearer token it asks for; never logged")
    grpc_push_token_file: SecretFile = Field(None, description="file that holds the token")

    @property
    def grpc_push_secret(self) -> str | None:
        """The token, from the file when one is named; None: there is none. Raises as `secret_files.read` does."""
        return secret_of(self.grpc_push_token_file, self.grpc_push_token)
