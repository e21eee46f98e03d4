"""What a record must have become: in, a record of the input topic; out, a reading, a rejection, or why it has no row.

Pure, and by the parts of the worker itself. What hangs on the state of a device is not decided: whether change of value
left a reading out, whether a message came twice, and whether a command found its alert.
"""

from typing import Any, TypeAlias, assert_never

from msgspec import Struct

from app.core.alerts.commands import command
from app.core.batch.output import EMPTY, HISTORY
from app.core.decode.dated import is_dated
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.arrival import arrived_ms
from app.core.model.headers import TOPIC
from app.core.model.records import Kind, Reading, Reason, Record, Rejected, Stage
from app.core.processing.control_effects import config_effect, status_effect
from app.core.routing.address import Address, address_of
from app.core.schema.schema import Schema

SILENCE = "silence"  # the policy of claims of inactivity, which workers write themselves


class DroppedByPolicy(Struct, frozen=True):
    """A record that is left out on purpose."""

    policy: str  # as in `iot_dropped_total`


class CarriedOut(Struct, frozen=True):
    """A record that leaves no row of its own: a status, a configuration, a command. It overwrites the one before it, so
    that it cannot be looked up.
    """

    kind: Kind


# A reading must be a row (or a dead letter that the database refused), a rejection a dead letter.
ExpectedOutcome: TypeAlias = Reading | Rejected | DroppedByPolicy | CarriedOut


class OutcomeJudge:
    """Judges records as a worker does, with the columns and the limits that are given."""

    def __init__(self, limits: DecodeLimits, schema: Schema) -> None:
        self._decoder, self._schema = Decoder(limits, schema), schema

    def begin(self) -> None:
        """Another run of records begins: the shape of payloads is learned anew."""
        self._decoder.begin()

    def judge(self, record: Record, now_ms: int, partition: int = 0) -> ExpectedOutcome:
        """What the record must have become. Never raises. `now_ms`, milliseconds since 1970, counts as its arrival
        where nothing that the record says of that is plausible.
        """
        address = address_of(record)
        if isinstance(address, Rejected):
            return _unless_empty(address)
        at = arrived_ms(record, now_ms)
        if address.kind is not Kind.TELEMETRY:
            return self._control(record, address, at, partition)
        found = self._decoder.decode(record, address, at)
        if isinstance(found, Rejected):
            return _unless_empty(found)
        if address.retained and not is_dated(record.value or b""):
            return DroppedByPolicy(HISTORY)
        return found

    def _control(self, record: Record, address: Address, at: int, partition: int) -> ExpectedOutcome:
        kind = address.kind
        if not record.value and address.topic:
            return DroppedByPolicy(EMPTY)
        found: Any = None
        match kind:
            case Kind.SILENCE:
                return DroppedByPolicy(SILENCE)
            case Kind.ALERTS_MANAGE:
                if address.retained:
                    return DroppedByPolicy(HISTORY)
                found = command(record, address, at)
            case Kind.STATUS:
                found = status_effect(record, address, at)
            case Kind.CONFIG:
                found = config_effect(record, address, at, partition, self._schema)
            case Kind.UNKNOWN | Kind.TELEMETRY:
                found = Rejected(record, Reason.UNSUPPORTED_KIND, Stage.ROUTE, f"{kind} records are not handled")
            case _:
                assert_never(kind)
        return found if isinstance(found, Rejected) else CarriedOut(kind)


def named_user(record: Record, found: ExpectedOutcome) -> str:
    """The user, or the node, of a record with that outcome: of a record without a reading as its topic or its key names
    it; empty where neither does.
    """
    if isinstance(found, Reading):
        return found.user_id
    address = address_of(record)
    if not isinstance(address, Rejected) and address.user_id:
        return address.user_id
    user, _, device = (record.key or b"").decode("utf-8", "ignore").partition("/")
    return user if device else ""


def _unless_empty(found: Rejected) -> Rejected | DroppedByPolicy:
    """A record without a payload that came by MQTT only cleared what the broker retains."""
    record = found.record
    cleared = not record.value and any(name == TOPIC for name, _ in record.headers)
    return DroppedByPolicy(EMPTY) if cleared else found
