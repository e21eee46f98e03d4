"""Any order of readings, duplicates, commands, edits, crashes, rebalances and replays, against the slow model.

The begin and the end of each episode are sent once, whoever works on it, and the tables say what was sent.
"""

import itertools
from math import inf
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.core.alerts.commands import CommandAction
from app.core.decode.decoder import DecodeLimits
from app.core.model.alert_event import AlertEvent
from app.core.model.times import micros
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.fakes import FakeStore
from tests.unit.alert_model import Model, SentAlert
from tests.unit.core.alerts.test_alert_model import _each_once, _plain, edited, rule_of
from tests.unit.core.processing.test_processor import Given
from tests.unit.readings import START
from tests.unit.records import Message

DEVICES = st.sampled_from("ab")
READINGS = st.tuples(
    DEVICES,
    st.sampled_from([0, 0, 0, 1, 1, 2, 5, -2]),  # seconds after the one before
    st.fixed_dictionaries(
        {"temperature": st.sampled_from([50.0, 70.0, 90.0, 90.0])}, optional={"battery": st.sampled_from([5, 50])}
    ),
)
NOW = START.timestamp() + 3600
# What of a batch outlives a crash; the order is that of the path.
STEPS = ["nothing", "tables", "alerts", "states", "all"]


class Device:
    """What the model knows of one."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.model = Model(given)
        self.latest = -1
        self.wanted: list[SentAlert] = []
        self.refused = 0
        self.word = ""  # active_alerts.state as of the last message that spoke of the open alert

    def reads(self, at: int, fields: dict[str, Any], number: int) -> None:
        """A reading, the `number`th message of the log."""
        if at < self.latest:
            return
        self.latest = at
        self.wanted += self.model.read(at, fields, number)
        if self.model.alert and self.model.alert.heard[0] == number:
            self.word = self._word()

    def obeys(self, action: str, until: int) -> None:
        """A command."""
        if not self.model.command(action, until):
            self.refused += 1
        elif self.model.alert and not self.model.changed:
            self.word = self._word()

    def _word(self) -> str:
        until, alert = self.model.muted_until(), self.model.alert
        if until is None:
            return "DISABLED"
        if until > self.latest:
            return "SNOOZED"
        return "ACKED" if alert and alert.acked else "FIRING"


class Alerts(RuleBasedStateMachine):
    """A partition with two devices, worked on by one worker at a time."""

    @initialize(given=rule_of, asleep=st.booleans())
    def begin(self, given: dict[str, Any], asleep: bool) -> None:
        """`asleep`: at first there is no rule for these devices."""
        self.given, self.asleep, self.clock = given, asleep, NOW
        self.log: list[Message] = []
        self.devices = {name: Device(given) for name in "ab"}
        self.now = self.committed = self.epoch = self.edits = 0
        self.states: dict[tuple[int, bytes], bytes] = {}
        self.tables = FakeStore()
        self.sent: list[AlertEvent] = []
        self.rejected: set[int] = set()
        self.book = RuleBook(DEFAULT)
        self._configure()
        self.rebalance(again=False)

    @rule(several=st.lists(READINGS, min_size=1, max_size=8))
    def readings(self, several: list[tuple[str, int, dict[str, Any]]]) -> None:
        for device, later, fields in several:
            self.now = max(0, self.now + later)
            body = {"timestamp": START.timestamp() + self.now, "sequence_id": len(self.log), **fields}
            self._append(device, "devices/" + device + "/telemetry", body)
            self._measure(device, self.now, fields)

    @precondition(lambda self: self.asleep and self.log)
    @rule()
    def wake(self) -> None:
        """The rule comes to the devices; what was read before it is history, for good."""
        self._finish()
        self.asleep = False
        self._configure()

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        """A bridge that died brings a message again: another record of the same."""
        message = data.draw(st.sampled_from(self.log))
        body = msgspec.json.decode(message.value or b"")
        self.log.append(msgspec.structs.replace(message, offset=len(self.log)))
        device = (message.key or b"").decode()[-1]
        if "timestamp" in body:
            fields = {name: body[name] for name in ("temperature", "battery") if name in body}
            self._measure(device, round(body["timestamp"] - START.timestamp()), fields)
        else:
            at = int(dict(message.headers)["ingest_ms"]) / 1000 - START.timestamp()
            self._command(device, body["action"], round(at + body.get("duration_minutes", 0) * 60))

    @precondition(lambda self: not self.asleep)
    @rule(device=DEVICES, action=st.sampled_from(list(CommandAction)), seconds=st.sampled_from([1, 3, 8]))
    def command(self, device: str, action: CommandAction, seconds: int) -> None:
        if self.devices[device].latest < 0:
            return
        body: dict[str, Any] = {"device_id": device, "rule_id": "r", "action": action, "way": "users"}
        if action is CommandAction.SNOOZE:
            body["duration_minutes"] = seconds / 60
        self._append(device, "alerts/manage", body)
        self._command(device, action, self.now + seconds)

    @precondition(lambda self: not self.asleep)
    @rule(meaning=st.booleans())
    def edit(self, meaning: bool) -> None:
        """When all is done: else nobody can say which readings come under which rule."""
        self._finish()
        self.edits += 1
        self.given = edited(self.given, self.edits, meaning=meaning) | {"devices": ["a", "b"]}
        self._configure()
        if meaning:
            for device in self.devices.values():
                device.model.edit(self.given)

    @precondition(lambda self: self.committed < len(self.log))
    @rule(size=st.integers(1, 8), kept=st.sampled_from([*STEPS, "all", "all"]), again=st.booleans())
    def batch(self, size: int, kept: str, again: bool) -> None:
        """Steps 2 to 7, or a crash on the way; or the partition is lost there, and comes back (`again`)."""
        records = self.log[self.committed : self.committed + size]
        self.clock += 10  # so that every batch may note how far it came
        given = Given(records, epoch=self.epoch)
        work = self.processor(given, self.clock)
        if work.left_over:  # too many alerts for one batch
            records = records[: -work.left_over]
            given = Given(records, epoch=self.epoch)
        done = STEPS.index(kept)
        self.rejected |= {one.record.offset for one in work.rejected}
        if done >= 1:
            assert self.tables._apply(work.effects + work.alert_effects) == ()
        if done >= 2:
            self.sent += work.events
        if done >= 3:
            self.states |= {(0, key): value for key, value in work.states.items()}
        if done >= 4:
            self.committed += len(records)
            self.processor.closed(given)
        else:
            self.rebalance(again)

    @rule(again=st.booleans())
    def rebalance(self, again: bool) -> None:
        """The partition goes to another worker, or to one started anew: it has what was stored.

        Or it comes back to the same worker (`again`), and what that one kept is void.
        """
        self.epoch += 1
        if not again:
            in_memory = 1 + self.epoch % 2  # of two devices
            load = lambda partition, key: self.states.get((partition, key))  # noqa: E731
            # The model knows no clocks that are set back (0): test_clock_back.py is about such clocks.
            output_max = 1 if self.epoch % 3 == 0 else inf
            self.processor = Processor(
                DecodeLimits(), DEFAULT, self.book, load, in_memory=in_memory, set_back_after=0, output_max=output_max
            )

    @rule(back=st.integers(1, 30))
    def replay(self, back: int) -> None:
        """An operator sets the offset back."""
        self.committed = max(0, self.committed - back)
        self.rebalance(again=False)

    @invariant()
    def what_is_told_again_is_the_same(self) -> None:
        known: dict[tuple[str, str, int], AlertEvent] = {}
        for event in getattr(self, "sent", []):
            assert known.setdefault((event.alert_id, event.status, event.repeat or 0), event) == event

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        self._finish()
        reported = list({(event.alert_id, event.status, event.repeat or 0): event for event in self.sent}.values())
        _each_once(reported)
        for name, device in self.devices.items():
            assert [_plain(event) for event in reported if event.device_id == name] == device.wanted
            row = self.tables.active_alerts.get(("u", name, "r", ""))
            alert = device.model.alert
            seconds = None if row is None else (micros(row[8]) - micros(START)) // 1_000_000
            assert seconds == (alert.first_seen if alert else None)
            assert row is None or row[10] == device.word
        assert set(self.tables.history) == {(event.alert_id, event.status, event.repeat or 0) for event in reported}
        assert len(self.rejected) == sum(device.refused for device in self.devices.values())

    def _finish(self) -> None:
        """Work on what is left, with a crash after each of the steps."""
        for number, step in enumerate(itertools.cycle(["all", *STEPS[:-1]])):
            if self.committed == len(self.log):
                break
            self.batch(1 + number % 4, step, number % 2 == 1)

    def _configure(self) -> None:
        given = self.given | ({"devices": ["z"]} if self.asleep else {})
        assert self.book.apply([("u", msgspec.json.encode([given]).decode())]) == []

    def _append(self, device: str, topic: str, body: dict[str, Any]) -> None:
        at = round((START.timestamp() + self.now) * 1000)
        headers = (("mqtt_topic", f"users/u/{topic}".encode()), ("ingest_ms", b"%d" % at))
        self.log.append(Message(msgspec.json.encode(body), headers, f"u/{device}".encode(), at, len(self.log)))

    def _measure(self, name: str, at: int, fields: dict[str, Any]) -> None:
        if not self.asleep:
            self.devices[name].reads(at, fields, len(self.log))

    def _command(self, name: str, action: str, until: int) -> None:
        self.devices[name].obeys(action, until)


TestAlerts = Alerts.TestCase
assert settings.default
TestAlerts.settings = settings(max_examples=2 * settings.default.max_examples, stateful_step_count=40)
