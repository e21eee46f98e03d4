"""What the QUIC gateway and its senders agree on: the protocol's name, frames, and the codes a connection ends with.

A sender opens bidirectional streams. On each it writes frames, 4 bytes of length (big-endian) and then a MetricBatch;
the gateway answers each on the same stream with a frame that holds a BatchAck, once Kafka has all of the batch.
"""

from enum import IntEnum, StrEnum

ALPN = "iot-stream/1"
PORT = 5001
LENGTH_BYTES = 4
CRYPTO_ERRORS = range(0x100, 0x200)  # QUIC's codes for alerts of TLS: 0x100 and the alert


class CloseCode(IntEnum):
    """Application error codes with which the gateway closes a connection; the reason stands beside it in words."""

    DONE = 0x00
    STOPPING = 0x01  # the gateway stops: connect again
    UNAVAILABLE = 0x02  # accounts cannot be asked now: connect again later
    SLOWED_DOWN = 0x03  # too many failures from this address: connect again later
    TOO_MANY_CONNECTIONS = 0x04  # of this account: connect again later
    TOO_SLOW = 0x05  # a frame that does not end
    NOT_AN_ACCOUNT = 0x10  # the certificate is good, and names no account
    CERTIFICATE_ENDED = 0x11  # while it was connected
    BAD_FRAME = 0x20  # empty, or cut off by the end of its stream
    FRAME_TOO_LARGE = 0x21
    NOT_A_BATCH = 0x22  # its bytes are no MetricBatch, or one of too many metrics


# Who is told one of these would be told it again.
FOR_EVER = frozenset(
    {
        CloseCode.NOT_AN_ACCOUNT,
        CloseCode.CERTIFICATE_ENDED,
        CloseCode.BAD_FRAME,
        CloseCode.FRAME_TOO_LARGE,
        CloseCode.NOT_A_BATCH,
    }
)


class Alert(IntEnum):
    """Alerts of TLS that the gateway refuses a certificate with (RFC 8446, 6); the code is CRYPTO_ERRORS[alert]."""

    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_EXPIRED = 45
    UNKNOWN_CA = 48
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


class LoginFault(StrEnum):
    """Why a connection never became an account's, as it is counted."""

    NO_CERTIFICATE = "no_certificate"
    BAD_CERTIFICATE = "bad_certificate"
    UNKNOWN_CA = "unknown_ca"
    EXPIRED = "expired_certificate"
    WRONG_PURPOSE = "wrong_purpose"
    NO_ALPN = "wrong_protocol"
    HANDSHAKE = "handshake"  # anything else, or nothing more was heard


OF_ALERT = {
    Alert.CERTIFICATE_REQUIRED: LoginFault.NO_CERTIFICATE,
    Alert.BAD_CERTIFICATE: LoginFault.BAD_CERTIFICATE,
    Alert.UNKNOWN_CA: LoginFault.UNKNOWN_CA,
    Alert.CERTIFICATE_EXPIRED: LoginFault.EXPIRED,
    Alert.UNSUPPORTED_CERTIFICATE: LoginFault.WRONG_PURPOSE,
    Alert.NO_APPLICATION_PROTOCOL: LoginFault.NO_ALPN,
}


def login_fault(code: int) -> LoginFault:
    """What the code of a handshake that failed stands for."""
    if code not in CRYPTO_ERRORS:
        return LoginFault.HANDSHAKE
    return next((fault for alert, fault in OF_ALERT.items() if CRYPTO_ERRORS[alert] == code), LoginFault.HANDSHAKE)
