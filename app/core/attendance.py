"""The things of one partition that are watched, and their timers; forgotten with the epoch, as all working state.

Who is online has to be in memory, to be found silent. Who is offline leaves it once that is stored, and is read again.
"""

from collections import deque
from collections.abc import Callable, Iterator

from app.core.device_classes import DeviceClasses
from app.core.presence import PREFIX, Limits, Name, Thing, is_online, restore
from app.core.wheel import Wheel

TICK = 0.25  # seconds; how much later than it could a timer is due
PLATFORM = "platform"  # the user who is told of what is no single device's matter

UNWATCHED = Thing(("", ""), Limits(0.0), -1)  # of all devices that nobody watches

Alarm = tuple[Name, str]  # device, rule: an open alert with no_data_seconds


class Attendance:
    """Of one partition. `mark` is the offset up to which all was applied when its first record comes."""

    def __init__(
        self, partition: int, mark: int, classes: DeviceClasses, load: Callable[[bytes], bytes | None]
    ) -> None:
        self._mark, self._classes, self._load = mark, classes, load
        self.partition = partition
        self.even_at = 0.0  # all that had come by then was seen when the sweeper looked last, seconds since 1970
        self.up_to = mark + 1  # every record before this offset was seen when the sweeper looked last
        self.things: dict[Name, Thing] = {}
        self.timers: Wheel[Thing] = Wheel(TICK)
        self.online = 0  # how many of the things are
        self._offline: deque[Thing] = deque()  # those that may leave memory
        self.heard: dict[Alarm, float] = {}  # when a reading last spoke of an open alert, seconds since 1970
        self.alarms: Wheel[Alarm] = Wheel(TICK)
        self.seeded = False  # what is stored as online has its timer
        self.mass = Thing((PLATFORM, f"partition-{partition}"), Limits(0.0), mark)  # offline: mass silence is told
        self.mass.online, self.mass.since_ms = True, 0
        if classes.watching and (stored := load(self.mass.key)) is not None:
            restore(self.mass, stored)

    def of(self, name: Name, sensor: bool) -> Thing:
        """A thing, whatever is known of it; `sensor`: it belongs to a node."""
        thing = self.things.get(name)
        if thing is None:
            limits = self._classes(name)
            if not limits.after:
                return UNWATCHED
            thing = self._take(name, limits, self._load(_key(name)), sensor)
        return thing

    def known(self, name: Name) -> Thing | None:
        """The same, None if nothing was heard of it ever."""
        thing = self.things.get(name)
        if thing is None and (stored := self._load(_key(name))) is not None and (limits := self._classes(name)).after:
            thing = self._take(name, limits, stored, False)
        return thing

    def _take(self, name: Name, limits: Limits, stored: bytes | None, sensor: bool) -> Thing:
        thing = self.things[name] = Thing(name, limits, self._mark, self)
        if stored is not None:
            sensor |= restore(thing, stored)
            self.online += thing.online
        if not thing.online:
            self._offline.append(thing)
        if sensor:
            node = self.of((name[0], ""), sensor=False)
            if node is not UNWATCHED:
                thing.node = node
                node.sensors = node.sensors or {}
                node.sensors[thing] = None
        return thing

    def falls_silent(self, thing: Thing) -> None:
        """It is offline now."""
        self.online -= 1
        self._offline.append(thing)

    def stored(self, closed: int) -> Iterator[Thing]:
        """All is stored of the records before this offset: those that are offline leave; who that was."""
        waiting = self._offline
        while waiting and waiting[0].applied < closed:
            thing = waiting.popleft()
            if not thing.online and not thing.sensors and self.things.get(thing.name) is thing:
                del self.things[thing.name]
                yield thing
                if (node := thing.node) is not None:
                    node.loses(thing)
                    if not node.online and not node.sensors:
                        waiting.append(node)

    def seed(self, key: bytes, value: bytes, now: float) -> None:
        """Give what is stored as online its timer, by its key in the state table; it counts as heard of now."""
        if not is_online(value):
            return
        user, _, device = key.removeprefix(PREFIX).decode().partition("/")
        thing = None if (user, device) == self.mass.name else self.known((user, device))
        if thing is not None and thing.online and not thing.timer:
            thing.seen_at = now
            self.arm(thing)

    def arm(self, thing: Thing, at: float | None = None) -> None:
        """Its timer: when it would be offline if nothing more came, or at that time. One that it has is void."""
        thing.timer = thing.seen_at + thing.limits.after if at is None else at
        self.timers.arm(thing, thing.timer)

    def due(self, now: float) -> Iterator[Thing]:
        """Those that are to be looked at now; they have no timer any more."""
        for thing in self.timers.due(now):
            if 0 < thing.timer <= now:
                thing.timer = 0.0
                yield thing


def _key(name: Name) -> bytes:
    return PREFIX + f"{name[0]}/{name[1]}".encode()
