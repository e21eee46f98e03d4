"""A storm of alerts as one message: the alerts that were held back, counted, and the first of them one by one."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b

import msgspec
from msgspec import Struct

LISTED_MAX = 200  # alerts one by one, 30 kB
RULES_MAX = 20


class HeldAlert(Struct, frozen=True, gc=False):
    """An event that was held back, as alert_history has it."""

    alert_id: str
    status: str
    repeat: int
    device_id: str
    rule_id: str
    severity: str | None
    event_time: datetime | None


class Counts(Struct, frozen=True):
    """How many events a digest stands for, by status, severity and rule."""

    count: int
    devices: int
    begin: datetime | None
    end: datetime | None
    by_status: dict[str, int]
    by_severity: dict[str, int]
    by_rule: dict[str, int]  # the RULES_MAX that have most


class AlertDigest(Struct):
    """What is published of a storm: the counts of all, and the first LISTED_MAX of them. Times are aware, in UTC."""

    digest_id: str  # the same when the digest is sent again
    user_id: str
    status: str
    begin: datetime | None
    end: datetime | None
    count: int
    devices: int
    by_status: dict[str, int]
    by_severity: dict[str, int]
    by_rule: dict[str, int]
    alerts: list[HeldAlert]
    omitted: int  # how many are not in `alerts`


def counted(held: Sequence[HeldAlert]) -> Counts:
    """Count these events."""
    times = [one.event_time for one in held if one.event_time]
    return Counts(
        count=len(held),
        devices=len({one.device_id for one in held}),
        begin=min(times, default=None),
        end=max(times, default=None),
        by_status=dict(Counter(one.status for one in held)),
        by_severity=dict(Counter(one.severity or "" for one in held)),
        by_rule=dict(Counter(one.rule_id for one in held).most_common(RULES_MAX)),
    )


def digest(user_id: str, held: Sequence[HeldAlert], counts: Counts | None = None) -> bytes:
    """The digest of a user's events as JSON; `held` are in the order in which they happened, at least one.

    Without `counts`, `held` are all events of the digest; with `counts` only the first of them.
    """
    first, counts = held[0], counts or counted(held)
    name = msgspec.json.encode([user_id, first.alert_id, first.status, first.repeat])
    body = AlertDigest(
        digest_id=blake2b(name, digest_size=16).hexdigest(),
        user_id=user_id,
        status="DIGEST",
        begin=counts.begin,
        end=counts.end,
        count=counts.count,
        devices=counts.devices,
        by_status=counts.by_status,
        by_severity=counts.by_severity,
        by_rule=counts.by_rule,
        alerts=list(held[:LISTED_MAX]),
        omitted=max(0, counts.count - LISTED_MAX),
    )
    return msgspec.json.encode(body)
