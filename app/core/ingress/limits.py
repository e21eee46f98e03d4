"""What a user and each of his devices may bring in: messages and bytes a second, with a burst; `now` is an argument.

Of each user or device in debt a limit keeps one number: the time at which the bucket is full again (GCRA). A user or
device without a number has a full bucket, so idle users are dropped, and memory is bounded whatever ids are invented.
"""

from collections.abc import Hashable

from msgspec import Struct

# Numbers in each limit: 10 MB at most. When more users than that are in debt at once, all begin anew with full buckets.
MOST = 65_536

ROUNDING = 1e-6  # seconds: sums of floats are a little off, and a limit of 20 messages must admit 20


class IngressLimits(Struct, frozen=True):
    """Messages and bytes a second, 0: no limit; `burst` is how many seconds' worth may come at once."""

    user_messages: float = 0.0
    user_bytes: float = 0.0
    device_messages: float = 0.0
    device_bytes: float = 0.0
    burst: float = 10.0


class _Meter:
    """One limit, of all users or of all devices."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._full_at: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def room(self, who: int, cost: float, now: float) -> bool:
        """Whether `who` has room for `cost` at `now`. A cost that exceeds the burst finds room in a full bucket."""
        debt = self._full_at.get(who, now) - now
        return debt <= 0 or debt + cost / self._rate <= self._burst + ROUNDING * max(1.0, self._burst)

    def wait(self, who: int, cost: float, now: float) -> float:
        """Seconds after `now` at which `who` has room for `cost`, if nothing else comes; 0 when there is room."""
        debt = self._full_at.get(who, now) - now
        return max(0.0, debt + min(0.0, cost / self._rate - self._burst)) if not self.room(who, cost, now) else 0.0

    def take(self, who: int, cost: float, now: float) -> None:
        """Take `cost` out of the bucket of `who`."""
        if len(self._full_at) >= MOST and who not in self._full_at:
            self._sweep(now)
        self._full_at[who] = max(self._full_at.get(who, now), now) + cost / self._rate

    def _sweep(self, now: float) -> None:
        self._full_at = {who: full_at for who, full_at in self._full_at.items() if full_at > now}
        if len(self._full_at) > MOST // 2:  # else each message would sweep again
            self._full_at.clear()


class Ingress:
    """The limits in effect, and who has used them up."""

    def __init__(self, limits: IngressLimits) -> None:
        given = (
            (True, False, limits.user_messages, "messages a second of a user: IOT_INGRESS_USER_MESSAGES"),
            (True, True, limits.user_bytes, "bytes a second of a user: IOT_INGRESS_USER_BYTES"),
            (False, False, limits.device_messages, "messages a second of a device: IOT_INGRESS_DEVICE_MESSAGES"),
            (False, True, limits.device_bytes, "bytes a second of a device: IOT_INGRESS_DEVICE_BYTES"),
        )
        self._meters = [
            (of_user, in_bytes, _Meter(rate, limits.burst), f"more than {rate:g} {what}")
            for of_user, in_bytes, rate, what in given
            if rate
        ]

    def __bool__(self) -> bool:
        return bool(self._meters)

    @property
    def remembered(self) -> int:
        """How many numbers are kept, of all limits."""
        return sum(len(meter) for _, _, meter, _ in self._meters)

    def fault(self, user: Hashable, device: Hashable, size: int, now: float) -> str | None:
        """Which limit a message of `size` bytes is over; None: the message may come in, and has been counted.

        `device` None stands for a message of the user himself; `now` is in seconds. A message that is refused is not
        counted.
        """
        ids = {True: hash(user), False: hash(device)}
        asked = [one for one in self._meters if one[0] or device is not None]
        for of_user, in_bytes, meter, what in asked:
            if not meter.room(ids[of_user], size if in_bytes else 1, now):
                return what
        for of_user, in_bytes, meter, _ in asked:
            meter.take(ids[of_user], size if in_bytes else 1, now)
        return None

    def wait(self, user: Hashable, device: Hashable, size: int, now: float) -> float:
        """Seconds after `now` at which `fault` would let the same message in, if nothing else comes before."""
        ids = {True: hash(user), False: hash(device)}
        asked = [one for one in self._meters if one[0] or device is not None]
        return max((one[2].wait(ids[one[0]], size if one[1] else 1, now) for one in asked), default=0.0)
