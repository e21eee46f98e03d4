"""How fast somebody may try credentials: failures in; out, how long to wait; `now` is an argument.

Each pair of peer and account, and each peer, has a bucket of failures that it may make; it fills again with time. What
is not refused: a pair that has logged in before is not held up by what else comes from its peer, and no account by
what others try on it from elsewhere. So whoever guesses slows himself.
"""

from collections import OrderedDict

from msgspec import Struct

MOST = 65_536  # pairs and peers that are remembered, of each
PAIR_FAILURES, PAIR_SECONDS = 5, 10.0  # at once, and for each one more
PEER_FAILURES, PEER_SECONDS = 30, 1.0


class _Bucket(Struct):
    """Of one limit: the time at which each bucket is full again (GCRA)."""

    failures: int
    seconds: float
    full_at: OrderedDict[int, float]

    def wait(self, who: int, now: float) -> float:
        """Seconds until one more failure is within the limit."""
        return max(0.0, self.full_at.get(who, now) - now - (self.failures - 1) * self.seconds)

    def take(self, who: int, now: float) -> None:
        """One more failure."""
        self.full_at[who] = max(self.full_at.pop(who, now), now) + self.seconds
        if len(self.full_at) > MOST:
            self.full_at.popitem(last=False)  # whoever failed longest ago


class LoginPace:
    """Of all who log in at one process."""

    def __init__(self) -> None:
        self._pairs = _Bucket(PAIR_FAILURES, PAIR_SECONDS, OrderedDict())
        self._peers = _Bucket(PEER_FAILURES, PEER_SECONDS, OrderedDict())
        self._tokens = _Bucket(PEER_FAILURES, PEER_SECONDS, OrderedDict())
        self._known: OrderedDict[int, None] = OrderedDict()

    def wait(self, peer: str, account: str, now: float) -> float:
        """Seconds after `now` that this peer has to wait before it may try this account; 0: it may.

        An empty `peer` is one that nobody knows, such as whoever comes by a proxy: it may be many.
        """
        pair = hash((peer, account))
        wait = self._pairs.wait(pair, now)
        if peer and pair not in self._known:
            wait = max(wait, self._peers.wait(hash(peer), now))
        return wait

    def failed(self, peer: str, account: str, now: float) -> None:
        """It tried, and was wrong."""
        self._pairs.take(hash((peer, account)), now)
        self._peers.take(hash(peer), now)

    def wait_after_token(self, peer: str, now: float) -> float:
        """Seconds that this peer, whose token was wrong just now, has to wait; 0: it need not.

        Asked afterwards, for no guess finds a token, and a right one is never held up.
        """
        wait = self._tokens.wait(hash(peer), now)
        self._tokens.take(hash(peer), now)
        return wait

    def succeeded(self, peer: str, account: str) -> None:
        """It logged in: the pair is known from now on."""
        pair = hash((peer, account))
        self._known[pair] = self._known.pop(pair, None)
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def is_known(self, peer: str, account: str) -> bool:
        """Whether this peer has logged in to this account before."""
        return hash((peer, account)) in self._known
