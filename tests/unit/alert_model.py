"""What alerts a device's history must cause, worked out slowly from the promise; shares no code with the app.

One rule at a time, over the whole history of readings that count: nothing is remembered from one moment to the next but
what was sent. Times are whole seconds.
"""

from dataclasses import dataclass, field
from typing import Any

SentAlert = tuple[
    str, int, int, Any, str, str, int, bool
]  # status, time, first_seen, value, severity, cause, repeat, suppressed


@dataclass
class Alert:
    """An alert that was sent and is not over."""

    first_seen: int
    fired_at: int
    severity: str
    index: int  # of the reading that fired it
    flapping: bool
    muted: bool = False
    acked: bool = False
    repeat: int = 0
    suppressed: bool = False
    stale: bool = False
    gap: int = 0  # readings before this index were before it went stale
    heard: tuple[int, int, Any] = (0, 0, None)  # number, time and value of the latest reading that said something


@dataclass
class Model:
    """Of one rule, as its JSON, on one device."""

    rule: dict[str, Any]
    readings: list[tuple[int, Any, Any]] = field(default_factory=list)  # (time, holds, stays), of readings that count
    commands: list[tuple[str, int]] = field(default_factory=list)  # (action, end of a snooze)
    fired: list[int] = field(default_factory=list)
    resolved: list[int] = field(default_factory=list)
    begin: int = 0  # index of the first reading after the last alert
    alert: Alert | None = None
    changed: bool = False
    last: tuple[int, Any] = (0, None)  # latest time, value of the open alert
    maintenance: list[tuple[int, int]] = field(default_factory=list)
    lag: int = 0  # seconds between a reading's time and its arrival, by which snoozes begin and end

    def read(self, time: int, fields: dict[str, Any], number: int = 0) -> list[SentAlert]:
        """A reading that is not late."""
        reported: list[SentAlert] = []
        if self.changed and self.alert:
            reported.append(self._event("RESOLVED", time, self.last[1], "rule_changed"))
            self.alert = None
        self.changed = False
        holds, stays, value = self._judge(fields)
        sent_before = self.alert is not None
        if (stays if sent_before else holds) is None:
            return reported
        self.readings.append((time, holds, stays))
        if self.alert is None:
            reported += self._open(time, value)
        else:
            if stays:
                self.last = (time, value)
            goes_on = self._goes_on_at(len(self.readings) - 1)
            reported += self._go_on(time, value) if goes_on else self._clear(time, value)
        if self.alert is not None:
            self.alert.heard, self.alert.stale = (number, time, value), False
        return reported

    def silence(self, time: int, up_to: int) -> list[SentAlert]:
        """Nothing has come since the entry `up_to` of the log; sent with the age in the place of the cause."""
        alert = self.alert
        if not self.rule.get("no_data_seconds") or self.changed or alert is None or alert.muted or alert.stale:
            return []
        if alert.suppressed or self._in_maintenance(time):
            return []
        number, heard, value = alert.heard
        if number >= up_to:
            return []
        alert.stale, alert.gap = True, len(self.readings)
        alert.repeat += 1
        return [self._event("STALE", time, value, str(time - heard), alert.repeat)]

    def _open(self, time: int, value: Any) -> list[SentAlert]:
        run = self._some() if "of" in self.rule else self._run()
        if not run or self._muted(time) or len(run) < self.rule.get("consecutive", 1):
            return []
        if time - run[0] < self.rule.get("for_seconds", 0):
            return []
        if self.resolved and time < self.resolved[-1] + self.rule.get("cooldown_seconds", 0):
            return []
        flap: dict[str, Any] | None = self.rule.get("flap")
        often = flap is not None and sum(time - t < flap["within_seconds"] for t in self.fired) >= flap["times"]
        self.fired.append(time)
        self.alert = Alert(run[0], time, self.rule.get("severity", "warning"), len(self.readings) - 1, often)
        self.alert.suppressed = self._in_maintenance(time)
        self.last = (time, value)
        return [self._event("FIRING", time, value, "flapping" if often else "")]

    def _run(self) -> list[int]:
        """Times of the latest readings in a row that hold, none of them before the last alert was over."""
        run: list[int] = []
        for time, holds, _ in reversed(self.readings[self.begin :]):
            if not holds:
                break
            run.insert(0, time)
        return run

    def _some(self) -> list[int]:
        """With `of`: times of the readings that hold, since none of the last M did; none if too few of the last M do,
        or the latest does not.
        """
        needed, last = self.rule["of"]
        readings = self.readings[self.begin :]
        if not readings[-1][1] or sum(bool(holds) for _, holds, _ in readings[-last:]) < needed:
            return []
        run: list[int] = []
        idle = 0
        for time, holds, _ in reversed(readings):
            idle = 0 if holds else idle + 1
            if idle >= last:
                break
            run = [time, *run] if holds else run
        return run

    def _goes_on_at(self, index: int) -> bool:
        """Whether the condition of the open alert held with the reading at `index`, which is not the alert's first."""
        alert = self.alert
        assert alert
        if "of" not in self.rule:
            return bool(self.readings[index][2])
        needed, last = self.rule["of"]
        window = range(max(self.begin, index - last + 1), index + 1)
        return sum(bool(self.readings[one][1 if one <= alert.index else 2]) for one in window) >= int(needed)

    def _go_on(self, time: int, value: Any) -> list[SentAlert]:
        alert = self.alert
        assert alert
        escalate: dict[str, Any] = self.rule.get("escalate", {})
        due = bool(escalate) and not alert.acked and alert.severity != escalate["severity"]
        due = due and time - alert.fired_at >= escalate["after_seconds"]
        in_maintenance, held_back = self._in_maintenance(time), alert.muted or alert.suppressed
        unmuted = held_back and not self._muted(time)
        if held_back and (not unmuted or in_maintenance):
            return []
        due = due and not in_maintenance
        if not held_back and not due and not alert.stale:
            return []
        if due:
            alert.severity = escalate["severity"]
        alert.repeat += 1
        if not unmuted and not due:
            return [self._event("FIRING", time, value, "data_again", alert.repeat)]
        if not unmuted:
            return [self._event("REMINDER", time, value, "escalated", alert.repeat)]
        if alert.suppressed:
            alert.suppressed = alert.muted = False
            return [self._event("FIRING", time, value, "maintenance_ended", alert.repeat)]
        alert.muted = alert.acked = False
        return [self._event("FIRING", time, value, "unmuted", alert.repeat)]

    def _clear(self, time: int, value: Any) -> list[SentAlert]:
        assert self.alert
        since = time
        for index in range(len(self.readings) - 1, max(self.alert.index + 1, self.alert.gap) - 1, -1):
            if self._goes_on_at(index):
                break
            since = self.readings[index][0]
        needed = self.rule.get("clear_for_seconds", 0)
        if self.alert.flapping:
            needed = max(needed, self.rule["flap"]["within_seconds"])
        if time - since < needed:
            if not self.alert.stale or self.alert.muted:
                return []
            self.alert.repeat += 1
            return [self._event("FIRING", time, value, "data_again", self.alert.repeat)]
        event = self._event("RESOLVED", time, value, "")
        self.alert, self.begin = None, len(self.readings)
        self.resolved.append(time)
        return [event]

    def command(self, action: str, until: int) -> bool:
        """Whether it is accepted."""
        alert = None if self.changed else self.alert
        if action == "ACK" and alert is None:
            return False
        self.commands.append((action, until))
        if alert and action == "ACK":
            alert.acked = True
        if alert and not alert.suppressed and action in ("SNOOZE", "DISABLE"):
            alert.muted = True
        return True

    def edit(self, rule: dict[str, Any]) -> None:
        """The rule means something else from now on: all that was said of the old one is void."""
        self.rule, self.changed = rule, True
        self.readings, self.begin = [], 0
        self.commands, self.fired, self.resolved = [], [], []

    def muted_until(self) -> int | None:
        """When the last snooze ends, -1000 if there is none; None while it is disabled."""
        disabled, until = False, -1000
        for action, end in self.commands:
            if action == "ENABLE":
                disabled, until = False, -1000
            disabled = disabled or action == "DISABLE"
            until = end if action == "SNOOZE" else until
        return None if disabled else until

    def _muted(self, time: int) -> bool:
        until = self.muted_until()
        return until is None or time + self.lag < until

    def _event(self, status: str, time: int, value: Any, cause: str, repeat: int = 0) -> SentAlert:
        assert self.alert
        alert = self.alert
        return status, time, alert.first_seen, value, alert.severity, cause, repeat, alert.suppressed

    def _in_maintenance(self, time: int) -> bool:
        return any(begin <= time < end for begin, end in self.maintenance)

    def _judge(self, fields: dict[str, Any]) -> tuple[Any, Any, Any]:
        """(holds, stays, the value to report); None where nothing is known."""
        word = next((word for word in ("all", "any") if word in self.rule), None)
        if word is None:
            return *_compare(self.rule, fields), fields.get(self.rule["key"])
        pairs = [_compare(part, fields) for part in self.rule[word]]
        holds, stays = (_join(word, [pair[side] for pair in pairs]) for side in (0, 1))
        verdict = stays if self.alert else holds
        order = [0, 1] if verdict in [pair[0] for pair in pairs] else [1]
        for place in order:
            for part, pair in zip(self.rule[word], pairs, strict=True):
                if pair[place] is verdict and verdict is not None:
                    return holds, stays, fields[part["key"]]
        return holds, stays, None


def _compare(part: dict[str, Any], fields: dict[str, Any]) -> tuple[Any, Any]:
    value, bound = fields.get(part["key"]), part["threshold"]
    if value is None:
        return None, None
    end = part.get("clear_threshold", bound)
    return (value > bound, value > end) if part["operator"] == ">" else (value < bound, value < end)


def _join(word: str, verdicts: list[Any]) -> Any:
    if word == "all":
        return False if False in verdicts else None if None in verdicts else True
    return True if True in verdicts else None if None in verdicts else False
