"""An open episode of one rule on one device, and the alert events of its life."""

from msgspec import Struct

from app.core.model.alert_event import Value
from app.core.model.alert_phase import Phase


class Episode(Struct, array_like=True):
    """From the reading that makes a rule's condition hold to the reading that ends the alert. Times are microseconds
    since 1970.

    An episode carries what its events say, because its rule may be gone at the end. Encoded as an array: add fields
    only at the end and with defaults.
    """

    alert_id: str
    first_seen: int  # time of the reading that opened the episode
    fingerprint: str  # of the rule that opened the episode
    severity: str
    message: str
    threshold: Value
    value: Value  # at last_seen
    last_seen: int  # latest reading for which the condition held
    fired: bool = True  # FIRING was sent; an episode that never fired ends in silence
    # Readings in a row for which the condition held, until it fires. Of a rule with `of`: its verdicts on the latest
    # readings, also after it has fired, as bits, the newest the lowest.
    count: int = 0
    fired_at: int = 0  # 0: at first_seen, as in all episodes from before rules could wait
    clear_since: int | None = None  # the first of the latest readings in a row for which the condition did not hold
    muted: bool = False  # snoozed or disabled since the alert was sent
    acked: bool = False
    escalated: bool = False
    flapping: bool = False  # the rule fired too often: the alert has to stay clear for longer
    repeat: int = 0  # how often the alert was sent again
    suppressed: bool = False  # the alert fired in a maintenance window: recorded, and sent to nobody so far
    stale: bool = False  # STALE was sent, and no reading has said anything since
    heard: int = -1  # offset of the latest reading that said whether the condition holds, once the alert was sent
    heard_time: int = 0  # that reading's time, and its value
    last: Value | None = None

    @property
    def phase(self) -> Phase:
        """The phase of the episode's alert; never NORMAL."""
        if not self.fired:
            return Phase.PENDING
        if self.suppressed:
            return Phase.SUPPRESSED
        if self.muted:
            return Phase.MUTED
        if self.stale:
            return Phase.STALE
        return Phase.FIRING if self.clear_since is None else Phase.CLEARING
