"""Claims of silence: what a worker's sweeper puts into the input topic, as records of kind `silence`.

A claim says that nothing has come of a device up to an offset. The claim lies in the device's own partition, so a
worker reads the claim after all records that had come before: a reading in between refutes the claim. So which devices
are silent is decided in the order of the log, the same at a replay, and a claim that is sent twice, or too late, does
no harm.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from app.core.model.identity import ids_fault
from app.core.model.keys import device_key
from app.core.model.namespaces import owner_of, user_of, way_of
from app.core.model.records import Record

HEADERS = [("kind", b"silence")]

What = Literal["no_data", "offline", "mass", "mass_over"]


class InactivityClaim(Struct, frozen=True, omit_defaults=True):
    """Which device, node or share of a user's devices is said to be silent."""

    what: What
    user_id: str
    device_id: str  # empty: the node `user_id`
    up_to: int  # the sender had seen every record before this offset
    since: int = 0  # when the last sign of life came, milliseconds since 1970; 0: not known
    rule_ids: tuple[str, ...] = ()  # of no_data
    silent: int = 0  # of mass: so many devices ...
    watched: int = 0  # ... of so many
    way: str = ""  # of the device

    @property
    def name(self) -> tuple[str, str]:
        """(owner, device id), by which a worker knows the device (app.core.model.namespaces)."""
        return owner_of(self.user_id, self.way), self.device_id


def about(
    what: What, name: tuple[str, str], up_to: int, since: int = 0, rule_ids: tuple[str, ...] = ()
) -> InactivityClaim:
    """A claim about the device that a worker knows by this name."""
    return InactivityClaim(what, user_of(name[0]), name[1], up_to, since, rule_ids, way=way_of(name[0]))


def to_record(claim: InactivityClaim) -> tuple[bytes, bytes]:
    """Kafka key and value of the claim's record; the headers are HEADERS."""
    key = device_key(claim.user_id, claim.device_id) if claim.device_id else claim.user_id.encode()
    return key, msgspec.json.encode(claim)


def of_this_log(claim: InactivityClaim, record: Record) -> bool:
    """Whether the claim was made about the log in which `record` is found: the sender had seen no later offset."""
    return claim.up_to <= record.offset


_decode = msgspec.json.Decoder(InactivityClaim).decode


def claim_of(record: Record) -> InactivityClaim | None:
    """The claim in a record of kind silence; None if there is none that this version can read, or of no device."""
    try:
        claim = _decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return None if ids_fault(claim.user_id, claim.device_id) else claim
