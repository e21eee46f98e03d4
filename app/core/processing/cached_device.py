"""A device in the cache, and the devices of a partition: what is known of them in this epoch."""

from app.core.model.namespaces import way_of
from app.core.presence.device_presence import DevicePresence
from app.core.presence.registry import PresenceRegistry
from app.core.state.device_state import DeviceState
from app.core.state.partition_log import PartitionLog
from app.core.user_config.rulebook import DeviceRules

Name = tuple[str, str]  # owner (app.core.model.namespaces), device

# Bytes of a stored state, beyond which a device counts as two in memory, and so on: a device with 40 rolling windows
# takes 14 kB in the store and 110 kB in memory, which invented devices would fill. Most states have 30 to 100 bytes.
WEIGHS_ONE = 256


class CachedDevice:
    """A device's working state, its rules, the key of its stored state, and its presence."""

    __slots__ = (
        "kept",
        "key",
        "moved_in",
        "name",
        "over",
        "partition",
        "presence",
        "rules_version",
        "state",
        "watch",
        "weight",
    )

    def __init__(self, partition: "PartitionState", name: Name, state: DeviceState | None, watch: DeviceRules) -> None:
        self.partition, self.name, self.key, self.state, self.watch = partition, name, key_of(name), state, watch
        self.rules_version = -1
        self.presence: DevicePresence | None = None  # None: not looked up yet
        self.over = False  # a device beyond the limit of states (device_limit.py)
        self.kept, self.weight = False, 1  # whether the device counts among the devices in memory, and as how many
        self.moved_in = -2  # the offset at which the batch begins in which the state changed last

    @property
    def stored(self) -> bool:
        """Whether the device's state can be read again from where it is stored."""
        return self.moved_in < self.partition.closed

    def begins(self) -> DeviceState:
        """Give the device its first state, from the partition's mark on."""
        mark, generation, way = self.partition.mark, self.partition.log.generation, way_of(self.name[0])
        self.state = DeviceState(applied_offset=mark, persisted_offset=mark, log=generation, way=way)
        return self.state

    def leave(self) -> None:
        """Leave the partition's devices: nothing of the device is known any more."""
        self.kept = False
        del self.partition.devices[self.name]
        if self.presence is not None:
            self.partition.registry.rest(self.presence)


class PartitionState:
    """The devices of a partition that were seen in this epoch, their presence, the mark, and the mark's log."""

    __slots__ = ("closed", "devices", "log", "mark", "marked_at", "number", "registry", "stepped")

    def __init__(self, number: int, mark: int, registry: PresenceRegistry, log: PartitionLog) -> None:
        self.number, self.registry, self.log = number, registry, log
        self.stepped = self.closed = -1  # offset after the last batch, and after the last batch whose states are stored
        self.devices: dict[Name, CachedDevice] = {}
        self.mark, self.marked_at = mark, 0.0

    def forget(self) -> None:
        """Let go of all at once: devices know their partition, so the garbage collector would have to find them."""
        self.devices.clear()
        self.registry.presences.clear()


def key_of(name: Name) -> bytes:
    """The key of a device's state in the state table."""
    return f"{name[0]}/{name[1]}".encode()


def name_of(key: bytes) -> Name | None:
    """The device with this key; None for a key that is no device's."""
    try:
        owner, slash, device_id = key.decode().rpartition("/")
    except UnicodeDecodeError:
        return None
    return (owner, device_id) if slash else None
