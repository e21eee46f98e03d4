"""An idle DevicePresence as bytes: a quarter of the object's memory, and no less is known of it."""

from struct import Struct

from app.core.presence.device_presence import DevicePresence

_LAYOUT = Struct("<dd??qqqqq")  # timer and seen_at first: they are looked at alone
_TIMER = Struct("<d")


def can_be(thing: DevicePresence) -> bool:
    """Whether it is a device or sensor that is online, has its timer, and nothing is claimed or told of it."""
    at_rest = thing.online and thing.timer > 0 and not thing.claimed and bool(thing.name[1])
    at_rest = at_rest and thing.history_ms < 0
    return at_rest and (thing.note_ms > 0 or thing.noted_ms == thing.last_ms)


def dense(thing: DevicePresence) -> bytes:
    """What `can_be`, as bytes."""
    times = (thing.since_ms, thing.last_ms, thing.note_ms)
    flags = (thing.node is not None, thing.named)
    return _LAYOUT.pack(thing.timer, thing.seen_at, *flags, thing.applied, thing.seen, *times)


def timer(data: bytes) -> float:
    """When it is looked at, seconds since 1970."""
    found: float = _TIMER.unpack_from(data)[0]
    return found


def restore(thing: DevicePresence, data: bytes) -> bool:
    """Put what `dense` made into a new Thing; whether it is a sensor."""
    thing.timer, thing.seen_at, sensor, thing.named, thing.applied, thing.seen, *times = _LAYOUT.unpack(data)
    thing.since_ms, thing.last_ms, thing.note_ms = times
    thing.noted_ms, thing.online = thing.last_ms, True
    return bool(sensor)
