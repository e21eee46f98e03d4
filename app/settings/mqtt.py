"""Settings of the MQTT broker, of the bridge, and of what a user may send through the bridge."""

from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from app.settings.secret_files import secret_of
from app.settings.values import (
    CaFile,
    CertificateFile,
    Host,
    KeyFile,
    Port,
    PositiveFloat,
    PositiveInt,
    Rate,
    SecretFile,
    Topics,
)


class MqttSettings(BaseModel, frozen=True):
    """What the bridge reads; the notifier reads the account too."""

    mqtt_host: Host = Field("127.0.0.1", description="MQTT broker, without a scheme or a port")
    mqtt_port: Port = Field(1883, description="MQTT broker's port")
    mqtt_username: str | None = Field(None, description="account of the bridge and the notifier")
    mqtt_password: SecretStr | None = Field(None, description="password of the account; never logged")
    mqtt_password_file: SecretFile = Field(None, description="file that holds the password")
    mqtt_tls: bool = Field(False, description="TLS to the MQTT broker, certificate and name verified")
    mqtt_ca_file: CaFile = Field(None, description="CA certificates instead of the system's, PEM")
    mqtt_certificate_file: CertificateFile = Field(None, description="own certificate, if the broker asks for one, PEM")
    mqtt_key_file: KeyFile = Field(None, description="key of the certificate; default: in the certificate's file")
    mqtt_guarded_ids: bool = Field(
        True,
        description="client ids and share end in a digest of the MQTT password: no other account can take them; "
        "false where the broker binds ids to accounts, see [users.md](users.md#client-ids)",
    )
    bridge_client_id: str = Field("iot-bridge-1", description="client id, and so the session, of this bridge")
    bridge_share: str = Field(
        "-", description="shared subscription all bridges join, with EMQX; `-`: none, one bridge has its filters alone"
    )
    bridge_in_flight: Annotated[int, Field(ge=1, le=65535)] = Field(
        20000, description="messages taken from the broker and not yet acknowledged (MQTT 5 receive maximum)"
    )
    bridge_filters: Topics = Field(
        ("users/#", "iot/#"), description="topics the bridge takes; JSON array; own outputs below them are skipped"
    )
    bridge_packet_max_bytes: PositiveInt = Field(
        2 << 20, description="largest MQTT packet taken; the broker withholds larger ones from the bridge"
    )
    bridge_buffer_bytes: PositiveInt = Field(64 << 20, description="payload bytes held before reading pauses")
    bridge_session_expiry: PositiveInt = Field(604800, description="how long the broker keeps the bridge's session")
    ingress_user_messages: Rate = Field(
        0.0,
        description="messages a second a user may send through the bridge, [users.md](users.md#limits); 0: no limit",
    )
    ingress_user_bytes: Rate = Field(0.0, description="payload bytes a second of a user; 0: no limit")
    ingress_device_messages: Rate = Field(0.0, description="messages a second of a device; 0: no limit")
    ingress_device_bytes: Rate = Field(0.0, description="payload bytes a second of a device; 0: no limit")
    ingress_burst: PositiveFloat = Field(10.0, description="seconds' worth of these limits that may come at once")

    @property
    def mqtt_secret(self) -> str | None:
        """The MQTT password, from the file when one is named; None: there is none. Raises as
        `secret_files.read` does.
        """
        return secret_of(self.mqtt_password_file, self.mqtt_password)
