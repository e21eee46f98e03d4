"""aioquic's connection of a client, which also knows when the gateway has forgotten it (RFC 9000, 10.3.1).

Private parts of aioquic are used here; tests/contract/gateways/quic/test_aioquic_internals.py watches them.
"""

import hmac

from aioquic.quic.connection import QuicConnection

TOKEN_BYTES = 16
LEAST_BYTES, MOST_BYTES = 21, 64  # of a datagram that may be a stateless reset: a longer datagram is not looked at


class SenderConnection(QuicConnection):
    """A connection to the gateway."""

    def forgotten(self, datagram: bytes) -> bool:
        """Whether a datagram ends in the stateless reset token of an id of ours: the gateway was restarted, and knows
        the connection no more.
        """
        if not LEAST_BYTES <= len(datagram) <= MOST_BYTES:
            return False
        last = datagram[-TOKEN_BYTES:]
        return any([hmac.compare_digest(token, last) for token in self._reset_tokens() if token])

    def _reset_tokens(self) -> list[bytes]:
        return [self._peer_cid.stateless_reset_token, *[one.stateless_reset_token for one in self._peer_cid_available]]
