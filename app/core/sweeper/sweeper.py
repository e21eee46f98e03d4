"""The sweeper: looks every second which devices are due, and says which claims of silence are to be sent.

The sweeper decides nothing: a claim does, when it comes by in the log (tracker.py, staleness.py). The sweeper keeps
false alarms from being claimed at all: while a partition was only just taken over, or is behind, or when too many
devices fall silent at once, or when a node did and its sensors with it.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from app.core.alerts.staleness import goes_stale
from app.core.model.alert_event import OFFLINE_RULE_ID
from app.core.model.inactivity_claim import InactivityClaim, What, about
from app.core.model.namespaces import user_of
from app.core.presence.device_presence import DevicePresence, Name
from app.core.presence.registry import PLATFORM, Alarm, PresenceRegistry
from app.core.processing.cached_device import PartitionState
from app.core.processing.device_cache import DeviceCache
from app.core.rules.mutes import FOREVER
from app.core.sweeper.mass_outage import ALL, MassOutageGuard
from app.core.sweeper.watermark import LogPosition, Watermark

RETRY = 10.0  # seconds after which a claim without effect is sent again
SETTLE = 10.0  # seconds after a grace in which the devices that are still silent will have been found
USER_WAIT = 5.0  # seconds until a user is notified: by then the sweeper knows whether all others are silent too
CLOCKS_DIFFER = 1.0  # seconds; the wall clock was set, or the process stood still


class SweeperConfig(Struct, frozen=True):
    """How careful the sweeper is; the defaults are the same as in the settings. Times are seconds."""

    poll: float = 1.0
    grace: float = 15.0  # nobody is claimed silent for so long after a partition was taken over or was behind
    lag_max: float = 4.0  # a partition with a longer lag is behind
    mass_share: float = 0.3
    mass_hold: float = 600.0  # nobody is held back for longer


class _Watch:
    """What the sweeper knows of one partition in this epoch."""

    def __init__(self, now: float, grace: float) -> None:
        self.even, self.quiet_until = Watermark(now), now + grace


class Sweeper:
    """The sweeper of a worker. Its methods take `now` in seconds since 1970, and a `clock` that nobody sets."""

    def __init__(self, devices: DeviceCache, care: SweeperConfig) -> None:
        self._devices, self._care = devices, care
        self._mass = MassOutageGuard(care.mass_share, care.mass_hold)
        self._epoch = -1
        self._watches: dict[int, _Watch] = {}
        self._last = (0.0, 0.0)
        self._mass_claimed: dict[str, float] = {}  # by user, when the claim was sent
        self.watched = 0  # devices that are online
        self.suspended = 0  # partitions that are not looked at

    @property
    def mass(self) -> bool:
        """Whether too many devices of all users are silent for each to be reported."""
        return ALL in self._mass.holds

    @property
    def users_held(self) -> list[str]:
        """The users of whose own devices too many are silent."""
        return [user_id for user_id in self._mass.holds if user_id != ALL]

    def look(self, positions: Mapping[int, LogPosition], now: float, clock: float) -> list[tuple[int, InactivityClaim]]:
        """(partition, claim): the claims to be sent. `positions` has the partitions whose states may be read now."""
        self._begin(positions, now, clock)
        claims: list[tuple[int, InactivityClaim]] = []
        fallen: list[DevicePresence] = []
        self.watched = self.suspended = 0
        for number, position in positions.items():
            partition = self._devices.partition(position.epoch, number)
            registry = partition.registry
            registry.up_to = max(partition.stepped, position.start)
            self.watched += registry.online
            if not registry.seeded or not self._calm(registry, position, now):
                self.suspended += 1
                continue
            fallen += self._overdue(registry, now)
            claims += [(number, claim) for claim in self._stale(partition, now)]
        claims += [self._claim(presence, now) for presence in self._mass.passed(fallen, self._devices.roll, now)]
        for presence in self._mass.later:
            presence.registry.arm(presence, now)
        for presence in self._mass.back(self._devices.roll, now):
            presence.registry.arm(
                presence, now if presence in self._mass.let_go else max(now, presence.seen_at) + presence.limits.after
            )
        return claims + self._about_mass(now)

    def _begin(self, positions: Mapping[int, LogPosition], now: float, clock: float) -> None:
        """Notice another assignment, or time that is missing: then all that was seen before is worth nothing."""
        epoch = next((position.epoch for position in positions.values()), self._epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._mass.forget()
            self._watches = {}
        passed, by_the_wall = clock - self._last[1], now - self._last[0]
        if passed > self._care.poll + self._care.lag_max or abs(passed - by_the_wall) > CLOCKS_DIFFER:
            for watch in self._watches.values():
                watch.quiet_until = now + self._care.grace
        self._last = (now, clock)
        for number in positions:
            self._watches.setdefault(number, _Watch(now, self._care.grace))

    def _calm(self, registry: PresenceRegistry, position: LogPosition, now: float) -> bool:
        """Whether silence on this partition means anything."""
        watch = self._watches[registry.partition]
        watch.even.look(position, registry.up_to)
        registry.even_at = watch.even.at
        if now - registry.even_at > self._care.lag_max:
            watch.quiet_until = now + self._care.grace
        return now >= watch.quiet_until

    def _overdue(self, registry: PresenceRegistry, now: float) -> Iterator[DevicePresence]:
        """The devices that have been silent for too long, and not together with their node."""
        for presence in registry.due(now):
            due, node = presence.seen_at + presence.limits.after, presence.node
            if not presence.online:
                continue
            if due > now:
                registry.arm(presence)
            elif (
                registry.even_at < presence.seen_at + presence.limits.after / 2
            ):  # the device's records may wait to be processed
                registry.arm(presence, now)
            elif self._waits(presence.name, now):
                registry.arm(presence, now + RETRY)
            elif node is None:
                yield presence
            elif not node.online:
                node.held = node.held or []
                node.held.append(presence)
            elif node.seen_at - presence.seen_at > presence.limits.after / 2:  # the node was heard of in the meantime
                yield presence
            else:  # the node may have fallen silent too, which its next sign of life, or its own timer, will show
                registry.arm(presence, max(now, min(now + self._care.poll, node.seen_at + node.limits.after)))

    def _waits(self, name: Name, now: float) -> bool:
        """Whether the device is not to be reported yet: a maintenance window or a snooze has to be over."""
        snoozed = 0 < self._devices.muted_until(name, OFFLINE_RULE_ID, now) < FOREVER
        return snoozed or self._devices.in_maintenance(name, now)

    def _claim(self, presence: DevicePresence, now: float) -> tuple[int, InactivityClaim]:
        registry: PresenceRegistry = presence.registry
        presence.claim()
        registry.arm(presence, now + RETRY)
        return registry.partition, about("offline", presence.name, registry.up_to, presence.last_ms)

    def _stale(self, partition: PartitionState, now: float) -> Iterator[InactivityClaim]:
        """Claims about open alerts without a reading for too long, one for each device."""
        registry = partition.registry
        rules: dict[Name, list[str]] = {}
        for alarm in registry.alarms.due(now):
            name, rule_id = alarm
            wait = self._stays_open(partition, alarm)
            if wait is None:
                del registry.heard[alarm]
                continue
            due, held = registry.heard[alarm] + wait, self._mass.holds_back(user_of(name[0]))
            if due <= now and not held and not self._devices.in_maintenance(name, now):
                rules.setdefault(name, []).append(rule_id)
            registry.alarms.arm(alarm, due if due > now else now + (1.0 if held else RETRY))
        for name, rule_ids in rules.items():
            yield about("no_data", name, registry.up_to, rule_ids=tuple(rule_ids))

    def _stays_open(self, partition: PartitionState, alarm: Alarm) -> float | None:
        """Seconds of silence after which this open alert goes stale; None when it is over, or never goes stale."""
        name, rule_id = alarm
        device = self._devices.known(partition, name)  # with the present rules
        if device is None or device.state is None:
            return None
        for rule in device.watch.rules:
            episode = device.state.episodes.get(rule.id) if rule.id == rule_id else None
            if episode is not None and goes_stale(rule, episode):
                return rule.no_data / 1_000_000
        return None

    def _about_mass(self, now: float) -> list[tuple[int, InactivityClaim]]:
        """Claims that make the alerts about mass silence agree with the guard; each is kept in a partition, as all
        state is.
        """
        places = [(number, self._devices.partition(self._epoch, number).registry) for number in sorted(self._watches)]
        users = {
            user_id for _, registry in places for user_id, presence in registry.masses.items() if not presence.online
        }
        asked = sorted(users.union(self.users_held) - {PLATFORM})
        return [claim for name in (ALL, *asked) for claim in self._about(name, places, now)] if places else []

    def _about(
        self, name: str, places: list[tuple[int, PresenceRegistry]], now: float
    ) -> list[tuple[int, InactivityClaim]]:
        """The claim about one user, or about all. While all are held nothing changes for a user."""
        masses = [(number, registry, registry.mass_of(name or PLATFORM)[1]) for number, registry in places]
        notified = [one for one in masses if not one[2].online]
        hold = self._mass.holds.get(name)
        if hold and notified:  # the hold began under an earlier worker
            hold.since = min(hold.since, *(mass.since_ms / 1000 for _, _, mass in notified))
        if bool(notified) is (hold is not None) or now < self._mass_claimed.get(name, 0.0) + RETRY:
            return []
        if not hold and self._mass.lets_go(name):
            return []  # or the next worker would hold them back anew
        if name != ALL and (self.mass or (hold and now < hold.since + USER_WAIT)):
            return []
        what: What = "mass" if hold else "mass_over"
        if not hold and now < max(watch.quiet_until for watch in self._watches.values()) + SETTLE:
            return []  # a worker that has just taken over does not know yet
        self._mass_claimed[name] = now
        silent = hold.silent if hold else ()
        since = min((round(presence.seen_at * 1000) for presence in silent), default=0)
        watched = self.watched if name == ALL else self._devices.roll.of(name)
        return [
            (
                number,
                InactivityClaim(
                    what, *mass.name, up_to=registry.up_to, since=since, silent=len(silent), watched=watched
                ),
            )
            for number, registry, mass in (notified or masses[:1])
        ]
