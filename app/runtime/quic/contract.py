"""What the QUIC gateway and its senders agree on: the protocol's name, and the codes a connection ends with.

A sender opens bidirectional streams and writes frames on them: 4 bytes of length (big-endian), then a MetricBatch. The
gateway answers each on the same stream, in their order, with a frame that holds a BatchAck, once Kafka has all of the
batch. A refusal is the last answer of its stream (proto/metrics.proto); other streams of the connection go on.
"""

from enum import IntEnum, StrEnum

ALPN = "iot-stream/1"
LENGTH_BYTES = 4
CRYPTO_ERRORS = range(0x100, 0x200)  # QUIC's codes for alerts of TLS: 0x100 and the alert


class CloseCode(IntEnum):
    """Application error codes with which the gateway closes a connection; the reason follows the code in words."""

    DONE = 0x00
    STOPPING = 0x01  # the gateway stops: connect again
    UNAVAILABLE = 0x02  # accounts cannot be asked now: connect again later
    SLOWED_DOWN = 0x03  # too many failures from this address: connect again later
    TOO_MANY_CONNECTIONS = 0x04  # of this account: connect again later
    NOT_AN_ACCOUNT = 0x10  # the certificate is good, and names no account
    CERTIFICATE_ENDED = 0x11  # while the client was connected


# A sender that gets one of these codes would get it again.
FOR_EVER = frozenset({CloseCode.NOT_AN_ACCOUNT, CloseCode.CERTIFICATE_ENDED})


class StreamCode(IntEnum):
    """Application error codes of a stream."""

    REFUSED = 0x01  # the rest of the stream is not read; the last answer says why


class Alert(IntEnum):
    """Alerts of TLS that the gateway refuses a certificate with (RFC 8446, 6); the code is CRYPTO_ERRORS[alert]."""

    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_EXPIRED = 45
    UNKNOWN_CA = 48
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


class LoginFault(StrEnum):
    """Why a handshake did not become a connection; the label under which handshakes are counted."""

    NO_CERTIFICATE = "no_certificate"
    BAD_CERTIFICATE = "bad_certificate"
    UNKNOWN_CA = "unknown_ca"
    EXPIRED = "expired_certificate"
    WRONG_PURPOSE = "wrong_purpose"
    WRONG_PROTOCOL = "wrong_protocol"
    HANDSHAKE = "handshake"  # anything else, or nothing more was heard


_FAULTS = {
    Alert.CERTIFICATE_REQUIRED: LoginFault.NO_CERTIFICATE,
    Alert.BAD_CERTIFICATE: LoginFault.BAD_CERTIFICATE,
    Alert.UNKNOWN_CA: LoginFault.UNKNOWN_CA,
    Alert.CERTIFICATE_EXPIRED: LoginFault.EXPIRED,
    Alert.UNSUPPORTED_CERTIFICATE: LoginFault.WRONG_PURPOSE,
    Alert.NO_APPLICATION_PROTOCOL: LoginFault.WRONG_PROTOCOL,
}
_OF_CODE = {CRYPTO_ERRORS[alert]: fault for alert, fault in _FAULTS.items()}


def login_fault(code: int) -> LoginFault:
    """What the error code of a ConnectionTerminated before the handshake's end stands for; any unknown code is
    HANDSHAKE.
    """
    return _OF_CODE.get(code, LoginFault.HANDSHAKE)
