"""Conditions of a rule: one comparison, or several joined by `all` or `any`, each asked of one reading.

A verdict is True, False, or None: nothing is known, because a value is missing or cannot be judged.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from app.core.model.alert_event import Value
from app.core.model.records import Reading
from app.core.rules.field_readers import Kind, Read, reader, reportable
from app.core.schema.schema import Schema

Verdict = bool | None
Shown = tuple[Value, Value]  # the value in an event, and the threshold that the value passed

# `value > threshold` is `threshold < value`: with the threshold first, functools.partial makes a C function of it,
# which costs 30 ns a call where a lambda costs 50.
_SWAPPED: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.lt, "<": operator.gt, ">=": operator.le, "<=": operator.ge, "==": operator.eq,
}  # fmt: skip


class Comparison(Struct, frozen=True, gc=False):
    """One key against its threshold. `holds` and `stays` take what `read` gave and must not be called with None."""

    key: str
    operator: str
    threshold: Value
    clear_threshold: float | None
    read: Read
    holds: Callable[[Any], Verdict]  # opens an episode
    stays: Callable[[Any], Verdict]  # keeps the episode open: the same operator on clear_threshold when there is one

    def show(self, value: Value, verdict: bool) -> Shown | None:
        """Value and threshold for an event; None for a value that cannot be judged."""
        shown = reportable(value)
        return None if shown is None else (shown, self.threshold)


class CompoundCondition(Struct, frozen=True, gc=False):
    """Several comparisons on one reading; the value of the condition is the tuple of their values.

    `all` holds when each comparison does, `any` when one comparison does. A verdict of None decides nothing: `all` is
    false as soon as one comparison is, whatever the others.
    """

    parts: tuple[Comparison, ...]
    decisive: bool  # the verdict of one part that settles the whole: False for `all`, True for `any`

    def read(self, reading: Reading) -> tuple[Value | None, ...]:
        """The value of each part, None for a value that cannot be judged."""
        values = [part.read(reading) for part in self.parts]
        return tuple([value if reportable(value) is not None else None for value in values])

    def might_hold(self, reading: Reading) -> bool:
        """Whether the condition may hold; False is certain. Reads no more parts than the answer takes."""
        for part in self.parts:
            value = part.read(reading)
            if (value is not None and part.holds(value)) is self.decisive:
                return self.decisive
        return not self.decisive

    def holds(self, values: tuple[Value | None, ...]) -> Verdict:
        """Whether the condition opens an episode."""
        return self._verdict([None if v is None else p.holds(v) for p, v in zip(self.parts, values, strict=True)])

    def stays(self, values: tuple[Value | None, ...]) -> Verdict:
        """Whether the condition keeps an episode open."""
        return self._verdict([None if v is None else p.stays(v) for p, v in zip(self.parts, values, strict=True)])

    def _verdict(self, verdicts: list[Verdict]) -> Verdict:
        if self.decisive in verdicts:
            return self.decisive
        return None if None in verdicts else not self.decisive

    def show(self, values: tuple[Value | None, ...], verdict: bool) -> Shown | None:
        """Value and threshold of the first part that agrees with the verdict."""
        known = [(part, value) for part, value in zip(self.parts, values, strict=True) if value is not None]
        for part, value in known:
            if part.holds(value) is verdict:
                return part.show(value, verdict)
        for part, value in known:
            if part.stays(value) is verdict:
                return part.show(value, verdict)
        return None


def comparison(condition: dict[str, Any], schema: Schema) -> Comparison:
    """Compile a condition that passed the checks, for readings of `schema`."""
    threshold, clear = condition["threshold"], condition.get("clear_threshold")
    compare = _SWAPPED[condition["operator"]]
    kind: Kind = "text" if isinstance(threshold, str) else "truth" if isinstance(threshold, bool) else "number"
    return Comparison(
        key=condition["key"],
        operator=condition["operator"],
        threshold=threshold,
        clear_threshold=clear,
        read=reader(schema, condition["key"], kind),
        holds=partial(compare, threshold),
        stays=partial(compare, threshold if clear is None else clear),
    )


def compound_condition(conditions: list[dict[str, Any]], word: str, schema: Schema) -> CompoundCondition:
    """Compile conditions that passed the checks, for readings of `schema`; `word` is all or any."""
    return CompoundCondition(tuple(comparison(one, schema) for one in conditions), word == "any")
