"""What a reading means to one rule's episode: a verdict and the time in; out, the signal that lifecycle.py looks up.

`now` is event time, in microseconds since 1970.
"""

from app.core.alerts.lifecycle import Signal
from app.core.rules.rule import Quorum, Rule
from app.core.state.episode import Episode
from app.core.state.rule_memory import RuleMemory


def counted(
    rule: Rule, of: Quorum, episode: Episode, note: RuleMemory, now: int, verdict: bool, suppress: bool
) -> Signal:
    """The signal of a reading with this verdict, which is in `episode.count` already, for a rule that counts `of`."""
    holds = of.reached(episode.count)
    if not episode.fired and episode.count and not (holds and verdict):
        return Signal.HOLDS  # some of the latest readings do
    return holding(rule, episode, note, now, suppress) if holds else clearing(rule, episode, now)


def holding(rule: Rule, episode: Episode, note: RuleMemory, now: int, suppress: bool) -> Signal:
    """The signal of a reading with which the condition holds."""
    if not episode.fired:
        due = (
            episode.count >= rule.consecutive
            and now - episode.first_seen >= rule.for_time
            and now >= note.rest_until
            and not note.mutes(now)
        )
        return Signal.HOLDS if not due else Signal.MAINTENANCE if suppress else Signal.DUE
    due = not note.mutes(now) if episode.suppressed or episode.muted else escalates(rule, episode, now)
    due = due and not suppress
    return Signal.DUE if due else Signal.HOLDS


def clearing(rule: Rule, episode: Episode, now: int) -> Signal:
    """The signal of a reading with which the condition does not hold."""
    if not episode.fired:
        return Signal.CLEARED
    needed = max(rule.clear_for, rule.flap.within) if episode.flapping and rule.flap else rule.clear_for
    since = now if episode.clear_since is None else episode.clear_since
    return Signal.CLEARED if now - since >= needed else Signal.CLEARS


def escalates(rule: Rule, episode: Episode, now: int) -> bool:
    """Whether the severity of the alert rises at `now`."""
    if rule.escalate is None or episode.escalated or episode.acked:
        return False
    return now - (episode.fired_at or episode.first_seen) >= rule.escalate.after
