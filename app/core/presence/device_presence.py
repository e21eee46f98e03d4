"""Whether a device or a node is there: what is known of its presence, the stored form, and the events of a change.

Silence is a matter of arrival: no time in a reading counts here, only the time when the reading came. A DevicePresence
is online from a sign of life until a claim of silence (app.core.model.inactivity_claim) that nothing has refuted, or
until its node says `offline`.
"""

from typing import Any

import msgspec
from msgspec import Struct

from app.core.batch.effects import Effect, Statement
from app.core.model.alert_event import OFFLINE_RULE_ID, AlertEvent, Severity, alert_id
from app.core.model.alert_event import Status as AlertStatus
from app.core.model.namespaces import user_of, way_of
from app.core.model.times import moment
from app.errors import PermanentError

PREFIX = b"\0seen/"  # of the keys in the state table; no device's own key begins so

Name = tuple[str, str]  # owner (app.core.model.namespaces), device or sensor; a node itself is (node, "")


def label(name: Name) -> str:
    """The text by which a device is known in memory: the last slash stands before the device, as ids hold none."""
    return f"{name[0]}/{name[1]}"


class PresenceLimits(Struct, frozen=True):
    """When a device of a class is offline, and whether its user is notified."""

    after: float  # seconds of silence until a device is offline; 0: the class is not watched
    alert: bool = True  # whether an alert is sent, or the change only noted in device_status


class DevicePresence:
    """The presence of a device, a sensor or a node, in a worker's memory. Times `_ms` are times of arrival, in
    milliseconds since 1970.
    """

    __slots__ = (
        "alert",
        "applied",
        "claimed",
        "held",
        "history_ms",
        "label",
        "last_ms",
        "limits",
        "name",
        "named",
        "node",
        "note_ms",
        "noted_ms",
        "online",
        "registry",
        "seen",
        "seen_at",
        "seen_in",
        "sensors",
        "since_ms",
        "timer",
    )  # fmt: skip

    def __init__(self, name: Name, limits: PresenceLimits, applied: int, registry: Any = None) -> None:
        """`registry` is the PresenceRegistry that this presence belongs to."""
        self.name, self.limits, self.applied, self.registry = name, limits, applied, registry
        self.label = label(name)
        self.named = True  # the alert's id says the way; False for an alert from before there were two
        self.online = False
        self.alert = False  # an alert that the device is offline was sent
        self.since_ms = 0  # when the device came online last: a part of its alert's id
        self.last_ms = 0  # last sign of life
        self.history_ms = -1  # records that came up to then are known from an earlier log
        self.noted_ms = 0  # last_ms in device_status and in the state table
        self.note_ms = 0  # a record before then only says that the device is still there; 0: there is more to do
        self.seen = -1  # offset of the device's latest record in this epoch
        self.seen_at = 0.0  # when this worker read that record, by its own clock, seconds since 1970
        self.seen_in = -1  # the offset at which the batch begins in which the presence was noted last
        self.claimed = False  # a claim that the device is silent is under way
        self.timer = 0.0  # when the sweeper looks at the device, seconds since 1970; 0: never
        self.node: DevicePresence | None = None
        self.sensors: dict[DevicePresence, None] | None = None  # of a node: its sensors in memory
        self.held: list[DevicePresence] | None = None  # of a node: the sensors that fell silent with it

    @property
    def latest(self) -> int:
        """Offset of the latest sign of life that is known."""
        return max(self.seen, self.applied, *[sensor.seen for sensor in self.sensors or ()])

    @property
    def user(self) -> str:
        """The user id of the device; the node's own id for a node."""
        return user_of(self.name[0])

    @property
    def key(self) -> bytes:
        """The key of the presence in the state table."""
        return PREFIX + self.label.encode()

    def online_now(self, offset: int, ms: int) -> None:
        """A sign of life has come, in the record at `offset`, at `ms` (milliseconds since 1970)."""
        self.online, self.applied, self.named = True, offset, True
        self.since_ms = max(ms, self.since_ms + 1)  # another time at each return, or two alerts would have one id
        self.last_ms = self.noted_ms = ms

    def offline_now(self, offset: int, since_ms: int) -> None:
        """The device is silent since `since_ms`, by the record at `offset`."""
        self.online, self.applied, self.alert = False, offset, self.limits.alert
        self.last_ms = self.noted_ms = since_ms or self.last_ms
        self.seen_in, self.note_ms = -1, 0

    def claim(self) -> None:
        """A claim that the device is silent is sent: its next record has to be noted, also one of the same batch."""
        self.claimed, self.seen_in, self.note_ms = True, -1, 0

    def loses(self, sensor: "DevicePresence") -> None:
        """A node's sensor leaves memory; the sensor's signs of life still count for the node."""
        assert self.sensors
        del self.sensors[sensor]
        self.seen = max(self.seen, sensor.seen)

    def event(self, status: AlertStatus, now_ms: int) -> AlertEvent:
        """FIRING or RESOLVED of the device's alert; the id is the same whichever worker finds the device offline."""
        user, device = user_of(self.name[0]), self.name[1]
        offline = status is AlertStatus.FIRING
        event = AlertEvent(
            alert_id=self.alert_id,
            user_id=user,
            device_id=device,
            rule_id=OFFLINE_RULE_ID,
            status=status,
            severity=Severity.WARNING,
            message=f"{'device' if device else 'node'} is {'offline' if offline else 'online again'}",
            value="offline" if offline else "online",
            threshold=self.limits.after,
            event_time=moment(now_ms * 1000),
            first_seen=moment(self.last_ms * 1000),
        )
        return msgspec.structs.replace(event, age_seconds=max(0, now_ms - self.last_ms) / 1000) if offline else event

    @property
    def alert_id(self) -> str:
        """The id of the alert that the device is offline."""
        way = way_of(self.name[0]) if self.named else ""
        return alert_id(user_of(self.name[0]), self.name[1], OFFLINE_RULE_ID, self.since_ms * 1000, way=way)

    def row(self, skew: float | None = None) -> Effect:
        """The device's row of device_status; `skew` (seconds) was measured just now, None leaves the value before."""
        owner, device = self.name
        word = "online" if self.online else "offline"
        args = (self.row_key, user_of(owner), device, word, moment(self.last_ms * 1000), skew, way_of(owner))
        return Effect(Statement.UPSERT_PRESENCE, args)

    @property
    def row_key(self) -> str:
        """The key of the row of device_status, beside the way."""
        return f"{user_of(self.name[0])}/{self.name[1]}" if self.name[1] else self.name[0]


class _Stored(Struct, array_like=True):
    version: int
    applied: (
        int  # this and `log` are where a device's state has them: the changelog reads both (app.core.state.changelog)
    )
    online: bool
    alert: bool
    sensor: bool
    since_ms: int
    last_ms: int
    log: int = 0
    named: bool = False  # of a sensor


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


def encode(presence: DevicePresence) -> bytes:
    """What a worker that takes over has to know of a presence, as some 30 bytes."""
    sensor, log = presence.node is not None, presence.registry.log if presence.registry else 0
    fields = (1, presence.applied, presence.online, presence.alert, sensor, presence.since_ms, presence.last_ms)
    if sensor:
        return _encode((*fields, log, presence.named))
    return _encode((*fields, log) if log else fields)


def is_sensor(data: bytes) -> bool:
    """Whether `encode` made these bytes of a sensor of a node."""
    try:
        return _stored(data).sensor
    except PermanentError:
        return False


def is_online(data: bytes) -> bool:
    """Whether `encode` made these bytes of a device that is online. Raises PermanentError for any other bytes."""
    return _stored(data).online


def _stored(data: bytes) -> _Stored:
    try:
        stored = _decode(data)
        if stored.version != 1:
            raise PermanentError(f"a device's presence has version {stored.version}, this program reads 1")
        moment(stored.since_ms * 1000), moment(stored.last_ms * 1000)
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
        raise PermanentError(f"not a device's presence ({error}): {data[:40]!r}") from error
    return stored


def restore(presence: DevicePresence, data: bytes, log: int = 0) -> bool:
    """Put what `encode` made into a new DevicePresence; whether this is a sensor's. Raises PermanentError for any other
    bytes.

    `log` is the generation of the log that is there now: a presence stored under another generation knows none of its
    offsets, and records that came before the last sign of life are history in this log, too.
    """
    stored = _stored(data)
    presence.online, presence.alert, presence.since_ms, presence.applied = (
        stored.online, stored.alert, stored.since_ms, stored.applied,
    )  # fmt: skip
    presence.last_ms = presence.noted_ms = stored.last_ms
    if stored.log != log:
        presence.applied, presence.history_ms = -1, stored.last_ms
    presence.named = stored.named or not stored.sensor
    return stored.sensor
