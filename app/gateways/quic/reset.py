"""Stateless resets (RFC 9000, 10.3): the datagram by which a sender learns at once that the gateway was restarted
and has no connection of this sender any more.

A sender that still holds its connection is answered by a datagram that ends in the token of the connection's id, which
the gateway sent while the connection was there. Tokens follow from the id by a secret that a restart leaves as it is:
of the gateway's key, and of this host and port, as another gateway with the same key must not give away our tokens.
"""

import hashlib
import hmac
import os
import socket

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

TOKEN_BYTES = 16
# Of a reset, which looks like any other datagram, and is shorter than the datagram that came.
LEAST_BYTES, MOST_BYTES = 21, 42


class ResetTokens:
    """The reset tokens of one gateway."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def token(self, connection_id: bytes) -> bytes:
        """The token of a connection id, 16 bytes, which proves that the gateway sent the reset."""
        return hmac.digest(self._secret, connection_id, "sha256")[:TOKEN_BYTES]

    def datagram(self, connection_id: bytes, came: int) -> bytes | None:
        """The answer to a datagram of `came` bytes; None: none may be given to one so short."""
        size = min(MOST_BYTES, came - 1)
        if size < LEAST_BYTES:
            return None
        noise = os.urandom(size - TOKEN_BYTES)
        return bytes([0x40 | noise[0] & 0x3F]) + noise[1:] + self.token(connection_id)


def reset_tokens(key: PrivateKeyTypes, port: int) -> ResetTokens:
    """The tokens that follow from a private key, this host and a port."""
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    where = f"iot-stream quic reset {socket.gethostname()} {port}".encode()
    return ResetTokens(hmac.digest(hashlib.sha256(secret).digest(), where, "sha256"))
