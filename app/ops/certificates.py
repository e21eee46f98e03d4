"""Settings in; out, a gauge for each CA and certificate file of a connection: when the file's certificate ends.

As of the start, for a program reads the files when it starts: a file renewed since shows once the program uses it.
"""

from prometheus_client import Gauge

from app.runtime.certificates import ends
from app.settings import Settings

CERTIFICATE_EXPIRY = Gauge(
    "iot_certificate_expiry_timestamp_seconds",
    "When the file of a connection ends: its certificate, or the last of its CAs; as read at the start",
    ["connection", "file"],
)
CONNECTIONS = ("kafka", "database", "mqtt", "http", "tcp", "grpc", "quic")


def report(settings: Settings) -> None:
    """Set CERTIFICATE_EXPIRY (seconds since 1970) for each file that a setting names, and never raise: a file that
    cannot be read any more since the settings were verified is left out.
    """
    for connection in CONNECTIONS:
        for file in ("ca", "certificate"):
            path = getattr(settings, f"{connection}_{file}_file")
            try:
                found = ends(path.read_text()) if path else ()
            except (OSError, ValueError):
                continue
            if found:  # of CAs any will do; of certificates the first is the program's own
                CERTIFICATE_EXPIRY.labels(connection, file).set(max(found) if file == "ca" else found[0])
