"""A partition gets another log, or something stored cannot be read: what the path makes of the states there are."""

from typing import Any

import msgspec
import pytest

from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.model.alert_event import OFFLINE_RULE_ID
from app.core.model.inactivity_claim import InactivityClaim, to_record
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PREFIX
from app.core.presence.device_presence import PresenceLimits as PresenceLimits
from app.core.processing.processor import Processor
from app.core.sampling.change_of_value import StoredChain
from app.core.state.device_state import VERSION, DeviceState, decode, encode, seen
from app.core.state.keys import MARK_KEY
from app.core.state.partition_log import LOG_KEY, PartitionLog, noted
from app.core.state.samples import Samples
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.core.processing.test_processor import NOW, Given, telemetry
from tests.unit.readings import rule
from tests.unit.records import Message

HOT = rule("temperature", ">", 80)
MS = int(NOW * 1000)


class Subject:
    """A fleet of one worker; each call is a batch, each `log` a take-over after which that is what there is."""

    def __init__(self, *rules: dict[str, object], watched: float = 0.0) -> None:
        self.states: dict[bytes, bytes] = {}
        self.log, self.epoch, self.unreadable = PartitionLog(0, "first"), 0, list[tuple[int, bytes]]()
        book = RuleBook(DEFAULT)
        assert book.apply([("u", msgspec.json.encode(rules).decode())]) == []
        self.processor = Processor(
            DecodeLimits(),
            DEFAULT,
            book,
            lambda _, key: self.states.get(key),
            DeviceClasses((), PresenceLimits(watched)),
            log_of=lambda _: self.log,
            unreadable=lambda partition, key, _: self.unreadable.append((partition, key)),
        )

    def takes_over(self, log: PartitionLog | None = None) -> None:
        self.log, self.epoch = log or self.log, self.epoch + 1

    def __call__(self, *records: Message, now: float = NOW) -> BatchOutput:
        work = self.processor(Given(records, 0, self.epoch), now)
        self.states |= work.states
        return work


def reported(work: BatchOutput) -> list[tuple[str, str, str]]:
    return [(event.device_id, event.status, event.alert_id) for event in work.events]


SECOND = PartitionLog(1, "second")


def test_in_another_log_an_open_alert_is_the_same_alert_and_resolves() -> None:
    subject = Subject(HOT)
    (fired,) = reported(subject(telemetry(300, temperature=90)))
    subject.takes_over(SECOND)
    assert reported(subject(telemetry(0, temperature=90, time=time_of(301)))) == []
    assert reported(subject(telemetry(1, temperature=20, time=time_of(302)))) == [("d", "RESOLVED", fired[2])]
    assert reported(subject(telemetry(2, temperature=90, time=time_of(303))))[0][1] == "FIRING"
    assert seen(subject.states[b"u/d"]) == (1, 2)


def time_of(second: int) -> Any:
    return msgspec.json.decode(telemetry(second).value or b"")["time"]


def test_in_another_log_history_alerts_nobody() -> None:
    """A cluster that takes over may have copied all there was."""
    subject = Subject(HOT)
    records = [telemetry(n, temperature=90 if n % 2 else 20) for n in range(20)]
    assert len(reported(subject(*records))) == 19
    subject.takes_over(SECOND)
    copied = [msgspec.structs.replace(record, offset=record.offset + 5) for record in records]
    work = subject(*copied)
    assert (len(work.rows), reported(work)) == (20, [])


def test_in_another_log_a_device_without_a_state_begins_at_its_start() -> None:
    subject = Subject(HOT)
    subject(telemetry(300))
    subject.takes_over(SECOND)
    assert [event[1] for event in reported(subject(telemetry(0, "new", temperature=90)))] == ["FIRING"]


def test_the_mark_says_which_log_it_is_of() -> None:
    subject = Subject(HOT)
    work = subject(telemetry(300))
    assert list(work.states)[-2:] == [MARK_KEY, LOG_KEY]
    found = noted(work.states[LOG_KEY])
    assert found is not None
    assert (found.offset, found.generation, found.identity, found.timestamp) == (300, 0, "first", MS)
    subject.takes_over(SECOND)
    work = subject(telemetry(3))
    found = noted(work.states[LOG_KEY])
    assert found is not None
    assert (found.offset, found.generation, found.identity) == (3, 1, "second")
    assert MARK_KEY not in work.states, "for an older program it would be one of the log that it knows"


def test_a_replay_of_the_other_log_is_silent_too() -> None:
    subject = Subject(HOT)
    subject(telemetry(300, temperature=20))
    subject.takes_over(SECOND)
    records = [telemetry(n, temperature=90 if n % 2 else 20, time=time_of(400 + n)) for n in range(6)]
    assert len(reported(subject(*records))) == 5
    subject.takes_over()
    assert reported(subject(*records)) == []
    assert reported(subject(telemetry(6, temperature=20, time=time_of(406))))[0][1] == "RESOLVED"


def test_what_was_left_out_is_known_by_the_offsets_of_the_log_that_is_there() -> None:
    samples = Samples(StoredChain(250, 5, {"temperature": 20}, [299, 300]))
    state = decode(encode(DeviceState(300, samples=samples)))
    state.begin_anew(1)
    assert state.samples == Samples(StoredChain(0, 5, {"temperature": 20}, []))
    assert state.samples.chain
    assert state.samples.chain.dropped(2)


def claim(offset: int, up_to: int, at: float) -> Message:
    key, value = to_record(InactivityClaim("offline", "u", "d", up_to, int(NOW * 1000)))
    return Message(value, (("kind", b"silence"),), key, int(at * 1000), offset)


def test_a_claim_about_the_log_before_says_nothing_about_this_one() -> None:
    subject = Subject(watched=5.0)
    subject(telemetry(300))
    subject.takes_over(SECOND)
    later = msgspec.structs.replace(telemetry(0), timestamp=MS + 9_000)
    subject(later, now=NOW + 9)
    assert reported(subject(claim(1, 301, NOW + 10), now=NOW + 10)) == []
    found = reported(subject(claim(2, 2, NOW + 20), now=NOW + 20))
    assert [event[1] for event in found] == ["FIRING"]


def test_signs_of_life_and_claims_that_were_copied_are_history() -> None:
    subject = Subject(watched=5.0)
    subject(telemetry(7))
    (fired,) = subject(claim(8, 8, NOW + 10)).events
    assert fired.rule_id == OFFLINE_RULE_ID
    back = msgspec.structs.replace(telemetry(9), timestamp=MS + 20_000)
    (resolved,) = subject(back, now=NOW + 20).events
    subject.takes_over(SECOND)
    copies = [msgspec.structs.replace(telemetry(7), offset=0), claim(1, 0, NOW + 10)]
    assert reported(subject(*copies, msgspec.structs.replace(back, offset=2), now=NOW + 30)) == []
    (again,) = subject(claim(4, 4, NOW + 40), now=NOW + 40).events
    assert again.alert_id not in (fired.alert_id, resolved.alert_id)


GARBAGE = [b"", b"\xff", b"\x93\x01", b"{}", b"\x91" * 5000, b"\x93\x01\x05\xcf\x7f" + b"\xff" * 7]
NEWER = [encode(decode(b"\x93\x01\x05\xc0")).replace(bytes([VERSION]), bytes([VERSION + 1]), 1)]


@pytest.mark.parametrize("poison", [*GARBAGE, *NEWER], ids=range(len(GARBAGE) + 1))
@pytest.mark.parametrize("key", [b"u/d", PREFIX + b"u/d", PREFIX + b"platform/partition-0", LOG_KEY, MARK_KEY])
def test_what_cannot_be_read_begins_that_device_anew_and_is_reported(key: bytes, poison: bytes) -> None:
    subject = Subject(HOT, watched=5.0)
    subject(telemetry(10, temperature=90), telemetry(11, "other", temperature=90))
    subject.takes_over()
    subject.states[key] = poison
    partition = subject.processor.partitions.partition(subject.epoch, 0)
    for stored, value in subject.states.items():
        subject.processor.partitions.seed(partition, stored, value, NOW)
    work = subject(telemetry(12, temperature=20), telemetry(13, "other", temperature=20), telemetry(14, temperature=90))
    assert len(work.rows) == 3
    assert ("other", "RESOLVED") in [event[:2] for event in reported(work)]
    assert ("d", "FIRING") in [event[:2] for event in reported(work)]
    if key not in (LOG_KEY, MARK_KEY):
        assert (0, key) in subject.unreadable
        assert subject.states[key] != poison or key.endswith(b"-0")
    assert reported(subject(telemetry(15, temperature=90))) == []


@pytest.mark.parametrize("key", [b"\xff\xfe/d", b"nobody", PREFIX + b"\xff/d"])
def test_a_key_that_no_device_has_is_reported_and_left_alone(key: bytes) -> None:
    subject = Subject(HOT, watched=5.0)
    subject(telemetry(10, temperature=90))
    values = {b"u": subject.states[b"u/d"], PREFIX: subject.states[PREFIX + b"u/d"]}
    partition = subject.processor.partitions.partition(subject.epoch, 0)
    subject.processor.partitions.seed(partition, key, values[PREFIX if key.startswith(PREFIX) else b"u"], NOW)
    assert subject.unreadable == [(0, key)]
