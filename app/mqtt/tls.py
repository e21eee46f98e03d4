"""Settings in, the TLS context of the MQTT broker out; None where TLS is off."""

import ssl

from app.runtime import tls
from app.settings import Settings


def mqtt_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of whatever connects to the broker, bridge, notifier and gateways; None: no TLS (IOT_MQTT_TLS).

    Raises ValueError that names the file which cannot be used.
    """
    if not settings.mqtt_tls:
        return None
    return tls.context(settings.mqtt_ca_file, settings.mqtt_certificate_file, settings.mqtt_key_file)
