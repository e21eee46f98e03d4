"""Which devices are watched, and how: classes by glob; the first class that takes a device in decides."""

from collections.abc import Sequence

from msgspec import Struct

from app.core.model.namespaces import user_of
from app.core.presence.device_presence import Name, PresenceLimits
from app.core.rules.globs import Globs


class DeviceClass(Struct, frozen=True, forbid_unknown_fields=True):
    """One class of the settings: the devices whose `user/device` (a node: `node`) matches the glob."""

    devices: str
    offline_after: float  # seconds; 0: not watched
    alert: bool = True


class DeviceClasses:
    """A device's name in, its PresenceLimits out; a device that no class takes in belongs to `other`."""

    def __init__(self, classes: Sequence[DeviceClass], other: PresenceLimits) -> None:
        self._classes = [(Globs([one.devices]), PresenceLimits(one.offline_after, one.alert)) for one in classes]
        self._other = other
        self.watching = other.after > 0 or any(limits.after > 0 for _, limits in self._classes)

    def __call__(self, name: Name) -> PresenceLimits:
        """The limits of a device, a sensor (node, sensor) or a node (node, "")."""
        text = f"{user_of(name[0])}/{name[1]}" if name[1] else name[0]
        for globs, limits in self._classes:
            if globs.takes_in(text):
                return limits
        return self._other


NOBODY = DeviceClasses((), PresenceLimits(0.0))
