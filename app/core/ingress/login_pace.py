"""How fast somebody may try credentials: failures in; out, how long to wait; `now` is an argument.

Each pair of peer and account, each peer, and each account has a bucket of failures, which fills again with time. An
account whose bucket is empty is being guessed from many addresses: a peer that has never logged in to this account then
has one try at once instead of PAIR_FAILURES, and waits longer for the next try. What is not refused: a pair that has
logged in before is not held up by other logins from its peer, nor by tries on its account from elsewhere; and every
peer has one try. So a guesser slows only itself, and no single address can empty an account's bucket.
"""

from collections import OrderedDict

from msgspec import Struct

MOST = 65_536  # pairs and peers that are remembered, of each
PAIR_FAILURES, PAIR_SECONDS = 5, 10.0  # failures at once, and seconds for each further failure
PEER_FAILURES, PEER_SECONDS = 30, 1.0
ACCOUNT_FAILURES, ACCOUNT_SECONDS = 100, 1.0  # one address fails 5 times at once, and 0.1 times a second
GUESSED_SECONDS = 60.0  # from one try to the next, instead of PAIR_SECONDS, on an account that is being guessed


class _Bucket(Struct):
    """The buckets of one limit: the time at which each bucket is full again (GCRA)."""

    failures: int
    seconds: float
    full_at: OrderedDict[int, float]

    def wait(self, who: int, now: float, failures: int = 0) -> float:
        """Seconds until one more failure is within the limit; `failures`: so many at once, 0: the limit's number."""
        return max(0.0, self.full_at.get(who, now) - now - ((failures or self.failures) - 1) * self.seconds)

    def take(self, who: int, now: float, seconds: float = 0.0) -> None:
        """Count one more failure; `seconds`: what this failure costs, 0 for the limit's own price."""
        self.full_at[who] = max(self.full_at.pop(who, now), now) + (seconds or self.seconds)
        if len(self.full_at) > MOST:
            self.full_at.popitem(last=False)  # the bucket that failed longest ago


class LoginPace:
    """The failures of all who log in at one process. `now` is seconds of a clock that only goes forward."""

    def __init__(self) -> None:
        self._pairs = _Bucket(PAIR_FAILURES, PAIR_SECONDS, OrderedDict())
        self._peers = _Bucket(PEER_FAILURES, PEER_SECONDS, OrderedDict())
        self._accounts = _Bucket(ACCOUNT_FAILURES, ACCOUNT_SECONDS, OrderedDict())
        self._tokens = _Bucket(PEER_FAILURES, PEER_SECONDS, OrderedDict())
        self._known: OrderedDict[int, None] = OrderedDict()

    def wait(self, peer: str, account: str, now: float) -> float:
        """Seconds after `now` that this peer has to wait before this peer may try this account; 0: now.

        An empty `peer` is unknown, as behind a proxy, and may stand for many peers.
        """
        pair = hash((peer, account))
        if pair in self._known:
            return self._pairs.wait(pair, now)
        wait = self._pairs.wait(pair, now, 1 if self._is_guessed(account, now) else 0)
        return max(wait, self._peers.wait(hash(peer), now)) if peer else wait

    def failed(self, peer: str, account: str, now: float) -> None:
        """Count a wrong password of this peer for this account."""
        pair = hash((peer, account))
        known = pair in self._known
        self._pairs.take(pair, now, GUESSED_SECONDS if not known and self._is_guessed(account, now) else 0.0)
        self._peers.take(hash(peer), now)
        if not known:
            self._accounts.take(hash(account), now)

    def wait_after_token(self, peer: str, now: float) -> float:
        """Seconds that this peer, whose token was wrong just now, has to wait; 0: not at all.

        Asked after a failure: no guess finds a token, and a right token is never held up.
        """
        wait = self._tokens.wait(hash(peer), now)
        self._tokens.take(hash(peer), now)
        return wait

    def succeeded(self, peer: str, account: str) -> None:
        """Note that this peer has logged in to this account: the pair is known from now on."""
        pair = hash((peer, account))
        self._known[pair] = self._known.pop(pair, None)
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def _is_guessed(self, account: str, now: float) -> bool:
        """Whether the tries on an account, of peers that never logged in to it, must be of many addresses."""
        return self._accounts.wait(hash(account), now) > 0.0

    def is_known(self, peer: str, account: str) -> bool:
        """Whether this peer has logged in to this account before."""
        return hash((peer, account)) in self._known
