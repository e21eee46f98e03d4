"""Settings of the notifier: alerts to MQTT and to the webhook."""

from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import Names, PositiveFloat, PositiveInt, SecretFile, WebUrl


class NotifierSettings(BaseModel, frozen=True):
    """Where alerts go, and how many."""

    notifier_client_id: str = Field("iot-notifier-1", description="client id of the notifier")
    alert_delayed_after: PositiveFloat = Field(
        60.0, description="an alert published this long after its event time says so (`delayed`)"
    )
    alerts_per_minute: Annotated[int, Field(ge=0)] = Field(
        60,
        description="messages to a user in a minute, up to half of them answers; others come as a digest; 0: no limit",
    )
    webhook_url: WebUrl = Field(None, description="URL to which the notifier posts every alert event too; never logged")
    webhook_secret: SecretStr | None = Field(
        None, description="secret of the webhook's signature (HMAC-SHA256), best with `whsec_`; never logged"
    )
    webhook_secret_file: SecretFile = Field(None, description="file that holds the key")
    webhook_timeout: PositiveFloat = Field(10.0, description="longest the webhook may take to answer")
    webhook_tries: PositiveInt = Field(
        12, description="an event not taken in so many tries, while other events are taken, is left out (6 minutes)"
    )
    channel_schemes: Names = Field(
        (), description="schemes of channels (mailtos, ntfys, slack ...), by comma; empty: alerts go to no channel"
    )
    channel_hosts: Names = Field(
        ("*",), description="hosts that channels go to, names and globs by comma; never one with a private address"
    )
    channel_private_hosts: Names = Field((), description="hosts that channels go to though their addresses are private")

    @property
    def webhook_key(self) -> str | None:
        """The key of the webhook's signature, from the file when one is named; None: posts are not signed.

        Raises as `secret_files.read` does.
        """
        return secret_of(self.webhook_secret_file, self.webhook_secret)
