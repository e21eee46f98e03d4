"""An idle DevicePresence as bytes: a quarter of the object's memory, with all that is known of the device."""

from struct import Struct

from app.core.presence.device_presence import DevicePresence

_LAYOUT = Struct("<dd??qqqqq")  # timer and seen_at first: they are looked at alone
_TIMER = Struct("<d")


def can_be(presence: DevicePresence) -> bool:
    """Whether this is a device or sensor that is online and has its timer, with no claim under way or alert sent."""
    at_rest = presence.online and presence.timer > 0 and not presence.claimed and bool(presence.name[1])
    at_rest = at_rest and presence.history_ms < 0
    return at_rest and (presence.note_ms > 0 or presence.noted_ms == presence.last_ms)


def dense(presence: DevicePresence) -> bytes:
    """A presence that `can_be` as bytes."""
    times = (presence.since_ms, presence.last_ms, presence.note_ms)
    flags = (presence.node is not None, presence.named)
    return _LAYOUT.pack(presence.timer, presence.seen_at, *flags, presence.applied, presence.seen, *times)


def timer(data: bytes) -> float:
    """When the sweeper looks at the packed device, seconds since 1970."""
    found: float = _TIMER.unpack_from(data)[0]
    return found


def restore(presence: DevicePresence, data: bytes) -> bool:
    """Put what `dense` made into a new DevicePresence; whether this is a sensor's."""
    presence.timer, presence.seen_at, sensor, presence.named, presence.applied, presence.seen, *times = _LAYOUT.unpack(
        data
    )
    presence.since_ms, presence.last_ms, presence.note_ms = times
    presence.noted_ms, presence.online = presence.last_ms, True
    return bool(sensor)
