"""The devices of this worker's partitions: the working state, rules and key of each.

Devices are kept for an epoch, and no more of them than is wanted: a device whose state is stored may leave, and its
state is read again.
"""

from collections.abc import Callable
from functools import partial

from app.core.alerts.outputs import adopted
from app.core.model.identity import bad_character
from app.core.model.namespaces import IOT, owner_of, user_of, way_of
from app.core.presence.device_classes import NOBODY, DeviceClasses
from app.core.presence.device_presence import PREFIX, is_sensor
from app.core.presence.online_count import OnlineCount
from app.core.presence.registry import MASS_PREFIX, UNWATCHED, PresenceRegistry
from app.core.processing.cached_device import WEIGHS_ONE, CachedDevice, Name, PartitionState, key_of, name_of
from app.core.processing.device_limit import DeviceLimit
from app.core.processing.eviction import EvictionPool
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState, at_rest, decode
from app.core.state.keys import MARK_KEY, mark_of
from app.core.state.partition_log import LOG_KEY, PartitionLog, noted
from app.core.user_config.rulebook import RuleBook
from app.errors import PermanentError

Load = Callable[[int, bytes], bytes | None]  # (partition, key) -> stored state
LogOf = Callable[[int], PartitionLog]  # partition -> its log
Home = Callable[[bytes], int]  # the partition that the records with a key go to

Unreadable = Callable[[int, bytes, str], None]  # (partition, key, what is wrong with what is stored there)
IN_MEMORY = 100_000  # devices; each takes some 800 bytes


class DeviceCache:
    """Looks states up once a device and epoch (see app.core.batch.batch.Batch), and rules when they have changed."""

    def __init__(
        self,
        rules: RuleBook,
        load: Load,
        classes: DeviceClasses = NOBODY,
        in_memory: int = IN_MEMORY,
        log_of: LogOf = lambda _: PartitionLog(),
        unreadable: Unreadable = lambda partition, key, error: None,
        home: Home | None = None,
        limit: DeviceLimit | None = None,
    ) -> None:
        """`log_of` says what log a partition has in this epoch; `unreadable` is called for each state that cannot be
        read.

        `home` says whose a state is that was stored before there were two ways; `limit` which devices get one.
        """
        self._limit = limit
        self._rules, self._load, self._classes, self._in_memory = rules, load, classes, in_memory
        self._log_of, self._unreadable, self._home = log_of, unreadable, home
        self._epoch = -1
        self._partitions: dict[int, PartitionState] = {}
        self._kept: EvictionPool[CachedDevice] = EvictionPool(in_memory, _weight)
        self.roll = OnlineCount()

    @property
    def count(self) -> int:
        """How many devices are kept in memory."""
        return len(self._kept)

    def partition(self, epoch: int, number: int) -> PartitionState:
        """The devices of a partition in this epoch. A new epoch forgets all that was kept, which may have run ahead of
        what is stored.
        """
        if epoch != self._epoch:
            for old in self._partitions.values():
                old.forget()
            self._epoch = epoch
            self._partitions, self._kept, self.roll = {}, EvictionPool(self._in_memory, _weight), OnlineCount()
            if self._limit is not None:
                self._limit.begin_anew()
        found = self._partitions.get(number)
        if found is None:
            log = self._log_of(number)
            mark = self._mark(number, log)
            load, unreadable = partial(self._load, number), partial(self._unreadable, number)
            registry = PresenceRegistry(number, mark, self._classes, load, log.generation, unreadable, self.roll)
            found = self._partitions[number] = PartitionState(number, mark, registry, log)
        return found

    def _mark(self, number: int, log: PartitionLog) -> int:
        """The offset up to which everything of this log is applied."""
        found = noted(self._load(number, LOG_KEY) or b"")
        mark = found.offset if found is not None and found.generation == log.generation else -1
        return max(mark, mark_of(self._load(number, MARK_KEY))) if not log.generation else mark

    def watched(self, partition: PartitionState, name: Name) -> CachedDevice:
        """The device of a reading, with the present rules; it gets a state when there is anything to keep for it."""
        device = partition.devices.get(name)
        if device is None:
            device = self.known(partition, name) or self._keep(partition, name, None)
            if self._limit is not None:
                self._hold_to_limit(device, self._limit)
        elif device.rules_version >= 0 and not self._rules.changed_since(user_of(name[0]), device.rules_version):
            device.rules_version = self._rules.version  # somebody else's rules have changed
            return device
        else:
            device.watch = self._rules.watch_for(user_of(name[0]), name[1])
        device.rules_version = self._rules.version
        watch = device.watch
        if (watch.rules or watch.sampling) and device.state is None and not device.over:
            device.begins()
        elif watch.sampling is None and device.state is not None:
            device.state.samples = None
        return device

    def _hold_to_limit(self, device: CachedDevice, limit: DeviceLimit) -> None:
        partition, name = device.partition, device.name
        has_state = device.state is not None or partition.registry.known(name) is not None
        device.over = not limit.admits(partition.number, name, has_state=has_state)
        if device.over:
            device.presence = UNWATCHED

    def known(self, partition: PartitionState, name: Name) -> CachedDevice | None:
        """The device with the present rules, None if nothing is known of this device."""
        device = partition.devices.get(name)
        if device is None:
            stored = self._load(partition.number, key_of(name))
            if stored is None:
                return self._from_before(partition, name)
            return self._keep(partition, name, self._read(partition, key_of(name), stored), len(stored))
        device.watch = self._rules.watch_for(user_of(name[0]), name[1])
        return device

    def _from_before(self, partition: PartitionState, name: Name) -> CachedDevice | None:
        """The device of iot/* whose state was stored before there were two ways; its rows get their way."""
        old = (user_of(name[0]), name[1])
        if not way_of(name[0]) or not self._was_sensor(partition, old):
            return None
        stored = self._load(partition.number, key_of(old))
        if stored is None:
            return None
        state = self._read(partition, key_of(old), stored)
        partition.registry.adopted += adopted(state, *name)
        return self._keep(partition, name, state, len(stored))

    def _was_sensor(self, partition: PartitionState, old: Name) -> bool:
        """Whether the state stored under that name is of iot/*: no key of users/* comes here, or presence says so."""
        if self._home is not None and self._home(key_of(old)) != partition.number:
            return True
        seen = self._load(partition.number, PREFIX + key_of(old))
        return seen is not None and is_sensor(seen)

    def _read(self, partition: PartitionState, key: bytes, stored: bytes) -> DeviceState:
        """The stored state of a device; a state that cannot be read begins anew from the mark, behind which all is
        history.
        """
        try:
            state = decode(stored)
        except PermanentError as error:
            self._unreadable(partition.number, key, str(error))
            state = DeviceState(log=partition.log.generation)
            state.applied_offset = state.persisted_offset = partition.mark
            return state
        if state.log != partition.log.generation:
            state.begin_anew(partition.log.generation)
        return state

    def _keep(self, partition: PartitionState, name: Name, state: DeviceState | None, size: int = 0) -> CachedDevice:
        device = CachedDevice(partition, name, state, self._rules.watch_for(user_of(name[0]), name[1]))
        device.weight = 1 + size // WEIGHS_ONE
        if state is not None:
            state.way = way_of(name[0])
        if self.holds(partition):  # else the state is for a batch of an epoch that is over, which leads to nothing
            device.kept = True
            self._kept.add(device)
        partition.devices[name] = device
        return device

    def weigh(self, device: CachedDevice, size: int) -> None:
        """The device's state takes `size` bytes in the store by now."""
        weight = 1 + size // WEIGHS_ONE
        if device.kept:
            self._kept.heavier(weight - device.weight)
        device.weight = weight

    def closed(self, epoch: int, number: int, end: int) -> None:
        """All states of the batch that ends at offset `end` are stored; batches of a partition come in order."""
        if epoch == self._epoch and number in self._partitions:
            partition = self._partitions[number]
            partition.closed = end
            for presence in partition.registry.stored(end):
                if (device := partition.devices.get(presence.name)) is not None:
                    device.presence = None
            self._kept.more_stored()

    def rules_of(self, user_id: str) -> tuple[Rule, ...]:
        """All rules of a user, those of all users too."""
        found = self._rules.in_force(user_id).rules
        return found.rules if found else ()

    def has_mute(self, user_id: str, rule_id: str, device_id: str, now: int) -> bool:
        """As RuleBook.has_mute says of the user."""
        return self._rules.has_mute(user_id, rule_id, device_id, now)

    def muted_until(self, name: Name, rule_id: str, seconds: float) -> int:
        """As RuleBook.muted_until says of the device."""
        return self._rules.muted_until(name, rule_id, seconds)

    def in_maintenance(self, name: Name, seconds: float) -> bool:
        """Whether the device is in a maintenance window at event time `seconds` since 1970."""
        return self._rules.in_maintenance(name, seconds)

    def holds(self, partition: PartitionState) -> bool:
        """Whether this PartitionState is still that of the present epoch."""
        return self._partitions.get(partition.number) is partition

    def seed(self, partition: PartitionState, key: bytes, value: bytes, now: float) -> None:
        """Take a stored state of an earlier life when the device's silence may have to be reported: when the device is
        online, or an alert is open.

        Ids that were taken once and are refused now are left out: no claim about such a device would come back.
        """
        if bad_character(key.decode(errors="replace")):
            return
        if self._limit is not None:
            self._limit.stored(partition.number, key.removeprefix(PREFIX))
        if key.startswith(PREFIX):
            partition.registry.seed(key, value, now)
        elif key.startswith(MASS_PREFIX):
            partition.registry.mass_of(key.removeprefix(MASS_PREFIX).decode("utf-8", "replace"))
        elif not key.startswith(b"\0") and not at_rest(value):
            name = name_of(key)
            if name is None:
                self._unreadable(partition.number, key, "no device has this key")
                return
            if not way_of(name[0]) and self._was_sensor(partition, name):
                name = (owner_of(name[0], IOT), name[1])
                if self._load(partition.number, key_of(name)) is not None:
                    return
            device = partition.devices.get(name)
            state = device.state if device else self._read(partition, key, value)
            no_data = self._rules.watch_for(user_of(name[0]), name[1]).no_data
            for rule_id, episode in state.episodes.items() if state and no_data else ():
                alarm = (name, rule_id)
                if episode.fired and rule_id in no_data and alarm not in partition.registry.heard:
                    partition.registry.heard[alarm] = now
                    partition.registry.alarms.arm(alarm, now + no_data[rule_id])


def _weight(device: CachedDevice) -> int:
    return device.weight
