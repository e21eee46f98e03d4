"""`iot-stream quic`: batches of metrics over QUIC, from senders with client certificates."""

from app.cli.ingest.run import run
from app.settings import load


def quic() -> None:
    """Take batches of metrics in over QUIC; a batch is acknowledged once Kafka has it.

    Senders show a client certificate: its common name is the account, and a URI urn:iot-stream:device:ID among its
    alternative names binds the account to one device. The protocol (ALPN iot-stream/1): docs/protocols.md.

    Example, with certificates of a CA of your own:

    \b
    scripts/certificates gateway localhost 127.0.0.1
    scripts/certificates client node-7
    export IOT_QUIC_CERTIFICATE_FILE=deploy/secrets/gateway_certificate
    export IOT_QUIC_KEY_FILE=deploy/secrets/gateway_key
    export IOT_QUIC_CA_FILE=deploy/secrets/gateway_ca.pem
    iot-stream quic
    """
    run(load(), ["quic"])
