"""Settings in, the TLS context of each server but Kafka's out (kafka_access.py); None where TLS is off."""

import ssl

from app import tls
from app.settings import Settings


def database_context(settings: Settings) -> ssl.SSLContext | None:
    """None: sslmode of the URL says, and asyncpg does as it is told there."""
    if not settings.database_tls:
        return None
    return tls.context(settings.database_ca_file, settings.database_certificate_file, settings.database_key_file)


def mqtt_context(settings: Settings) -> ssl.SSLContext | None:
    """Of the bridge, the notifier and the doctor."""
    if not settings.mqtt_tls:
        return None
    return tls.context(settings.mqtt_ca_file, settings.mqtt_certificate_file, settings.mqtt_key_file)
