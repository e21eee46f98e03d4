"""The watched devices of one partition, and their timers; forgotten with the epoch, as all working state.

A device that is online has to be in memory, to be found silent: as an object while the device is in the device cache or
a claim is under way, else as bytes (app.core.presence.packed). A device that is offline leaves memory once this is
stored, and is read again.
"""

from collections import deque
from collections.abc import Callable, Iterator

from app.core.batch.effects import Effect, Statement
from app.core.model.alert_event import OFFLINE_RULE_ID
from app.core.model.namespaces import IOT, owner_of, user_of, way_of
from app.core.presence import packed
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import (
    PREFIX,
    DevicePresence,
    Name,
    PresenceLimits,
    is_online,
    is_sensor,
    label,
    restore,
)
from app.core.presence.online_count import OnlineCount
from app.core.presence.timing_wheel import TimingWheel
from app.errors import PermanentError

TICK = 0.25  # seconds; a timer is due at most so much later than asked for
PLATFORM = "platform"  # the user who is notified of troubles of no single device and no single user
MASS_PREFIX = b"\0mass/"  # of the keys in the state table under which mass silence of one user is kept

UNWATCHED = DevicePresence(("", ""), PresenceLimits(0.0), -1)  # of all devices that nobody watches

Alarm = tuple[Name, str]  # device, rule: an open alert with no_data_seconds


class PresenceRegistry:
    """The presences of one partition. `mark` is the offset up to which all was applied when the first record comes."""

    def __init__(
        self,
        partition: int,
        mark: int,
        classes: DeviceClasses,
        load: Callable[[bytes], bytes | None],
        log: int = 0,
        unreadable: Callable[[bytes, str], None] = lambda key, error: None,
        roll: OnlineCount | None = None,
    ) -> None:
        """`log` is the generation of the partition's log (partition_log.py), `roll` the count over all partitions."""
        self._mark, self._classes, self._load = mark, classes, load
        self.log, self._unreadable = log, unreadable
        self.partition = partition
        self.even_at = 0.0  # records that had come by then (seconds since 1970) were seen when the sweeper looked last
        self.up_to = mark + 1  # every record before this offset was seen when the sweeper looked last
        self.presences: dict[str, DevicePresence | bytes] = {}  # by label
        self.timers: TimingWheel[str] = TimingWheel(TICK)
        self.online = 0  # how many of the devices are online
        self._roll = roll or OnlineCount()
        self._offline: deque[DevicePresence] = deque()  # devices that may leave memory
        self.heard: dict[Alarm, float] = {}  # when a reading was last about an open alert, seconds since 1970
        self.alarms: TimingWheel[Alarm] = TimingWheel(TICK)
        self.adopted: list[Effect] = []  # rows that are given their way with the next batch
        self.seeded = False  # every device that is stored as online has its timer
        name = (PLATFORM, f"partition-{partition}")
        self.mass = DevicePresence(name, PresenceLimits(0.0), mark, self)  # offline: mass silence is reported
        self.mass.online, self.mass.since_ms = True, 0
        if classes.watching and (stored := load(self.mass.key)) is not None:
            self._restore(self.mass, stored)
        self.masses: dict[str, DevicePresence] = {}  # mass silence of single users, as far as a caller asked for it

    def mass_of(self, user_id: str) -> tuple[bytes, DevicePresence]:
        """The mass silence of one user, or of all (PLATFORM): its key in the state table, and what is known of it."""
        if user_id == PLATFORM:
            return self.mass.key, self.mass
        key, presence = MASS_PREFIX + user_id.encode(), self.masses.get(user_id)
        if presence is None:
            presence = self.masses[user_id] = DevicePresence(
                (user_id, self.mass.name[1]), PresenceLimits(0.0), self._mark, self
            )
            presence.online = True
            if (stored := self._load(key)) is not None:
                self._restore(presence, stored)
        return key, presence

    def of(self, name: Name, sensor: bool) -> DevicePresence:
        """The presence of a device, new if nothing is known of it; `sensor`: the device belongs to a node."""
        presence = self._in_memory(label(name))
        if presence is None:
            limits = self._classes(name)
            if not limits.after:
                return UNWATCHED
            presence = self._take(name, limits, self._stored(name), sensor)
        return presence

    def known(self, name: Name) -> DevicePresence | None:
        """The presence of a device; None if no sign of life ever came."""
        presence = self._in_memory(label(name))
        if presence is None and (stored := self._stored(name)) is not None and (limits := self._classes(name)).after:
            presence = self._take(name, limits, stored, False)
        return presence

    def _in_memory(self, key: str) -> DevicePresence | None:
        found = self.presences.get(key)
        if isinstance(found, bytes):
            owner, _, device = key.rpartition("/")
            name = (owner, device)
            presence = self.presences[key] = DevicePresence(name, self._classes(name), self._mark, self)
            self._belongs(presence, sensor=packed.restore(presence, found))
            return presence
        return found

    def _stored(self, name: Name) -> bytes | None:
        """What is stored of a device; before there were two ways, a sensor had the name of a device of users/*."""
        stored = self._load(PREFIX + label(name).encode())
        if way_of(name[0]):
            if stored is None:
                stored = self._before(name)
        elif stored is not None and name[1] and is_sensor(stored):
            return None
        return stored

    def _before(self, name: Name) -> bytes | None:
        old = (user_of(name[0]), name[1])
        stored = self._load(PREFIX + label(old).encode())
        if stored is None or not is_sensor(stored):
            return None
        presence = DevicePresence(name, PresenceLimits(0.0), self._mark)
        restore(presence, stored)
        self.adopted.append(Effect(Statement.ADOPT_STATUS, (label(old),)))
        if presence.alert:
            self.adopted.append(Effect(Statement.ADOPT_ACTIVE_ALERT, (*old, OFFLINE_RULE_ID, presence.alert_id)))
        return stored

    def _take(self, name: Name, limits: PresenceLimits, stored: bytes | None, sensor: bool) -> DevicePresence:
        presence = DevicePresence(name, limits, self._mark, self)
        self.presences[presence.label] = presence
        if stored is not None:
            sensor |= self._restore(presence, stored)
            if presence.online:
                self.comes(presence)
        if not presence.online:
            self._offline.append(presence)
        self._belongs(presence, sensor=sensor)
        return presence

    def _restore(self, presence: DevicePresence, stored: bytes) -> bool:
        """Put stored bytes into a presence, which begins at the mark if they are unreadable; True for a sensor's."""
        try:
            return restore(presence, stored, self.log)
        except PermanentError as error:
            self._unreadable(presence.key, str(error))
            return False

    def _belongs(self, presence: DevicePresence, *, sensor: bool) -> None:
        node = self.of((user_of(presence.name[0]), ""), sensor=False) if sensor else UNWATCHED
        if node is not UNWATCHED:
            presence.node = node
            node.sensors = node.sensors or {}
            node.sensors[presence] = None

    def rest(self, presence: DevicePresence) -> None:
        """Nobody uses the object for now: pack it if possible."""
        if packed.can_be(presence):
            self.presences[presence.label] = packed.dense(presence)
            if presence.node is not None:
                presence.node.loses(presence)

    def comes(self, presence: DevicePresence) -> None:
        """The device is online now."""
        self.online += 1
        self._roll.comes(presence.user)

    def falls_silent(self, presence: DevicePresence) -> None:
        """The device is offline now."""
        self.online -= 1
        self._roll.goes(presence.user)
        self._offline.append(presence)

    def stored(self, closed: int) -> Iterator[DevicePresence]:
        """All is stored of the records before offset `closed`: devices that are offline leave memory; yields them."""
        waiting = self._offline
        while waiting and waiting[0].applied < closed:
            presence = waiting.popleft()
            if not presence.online and not presence.sensors and self.presences.get(presence.label) is presence:
                del self.presences[presence.label]
                yield presence
                if (node := presence.node) is not None:
                    node.loses(presence)
                    if not node.online and not node.sensors:
                        waiting.append(node)

    def seed(self, key: bytes, value: bytes, now: float) -> None:
        """Give a device that is stored as online its timer, by its key in the state table; its silence begins `now`
        (seconds since 1970).
        """
        try:
            if not is_online(value):
                return
            text = key.removeprefix(PREFIX).decode()
        except (PermanentError, UnicodeDecodeError) as error:
            self._unreadable(key, str(error))
            return
        owner, _, device = text.rpartition("/")
        if device and not way_of(owner) and is_sensor(value):  # from before there were two ways
            owner = owner_of(owner, IOT)
            text = label((owner, device))
            if self._load(PREFIX + text.encode()) is not None:
                return
        if text == self.mass.label or isinstance(there := self.presences.get(text), bytes):
            return
        presence = self.known((owner, device))
        if presence is not None and presence.online and not presence.timer:
            presence.seen_at = now
            self.arm(presence)
            if there is None:
                self.rest(presence)

    def arm(self, presence: DevicePresence, at: float | None = None) -> None:
        """Set the device's timer to the time when it would be offline if nothing more came, or to `at` (seconds since
        1970). An earlier timer is void.
        """
        presence.timer = presence.seen_at + presence.limits.after if at is None else at
        self.timers.arm(presence.label, presence.timer)

    def due(self, now: float) -> Iterator[DevicePresence]:
        """Yield the devices to be looked at now (seconds since 1970); they have no timer any more."""
        for key in self.timers.due(now):
            found = self.presences.get(key)
            if isinstance(found, bytes) and packed.timer(found) > now:
                continue
            presence = self._in_memory(key)
            if presence is not None and 0 < presence.timer <= now:
                presence.timer = 0.0
                yield presence
                if found is not presence:
                    self.rest(presence)
