"""Settings in, the TLS context of the MQTT broker out; None where TLS is off."""

import ssl

from app.runtime import tls
from app.settings import Settings


def mqtt_context(settings: Settings) -> ssl.SSLContext | None:
    """Of the bridge, the notifier and the doctor."""
    if not settings.mqtt_tls:
        return None
    return tls.context(settings.mqtt_ca_file, settings.mqtt_certificate_file, settings.mqtt_key_file)
