"""What a rule means, as a short text: equal for equal meanings, however the rules are written."""

from hashlib import blake2b
from typing import Any

import msgspec

from app.core.model.alert_event import Severity, Value
from app.core.rules.conditions import Comparison, CompoundCondition


def fingerprint(
    condition: Comparison | CompoundCondition,
    severity: Severity,
    timing: tuple[int, int, int],
    of: list[int] | None = None,
) -> str:
    """16 hex digits; `timing` is for_seconds and clear_for_seconds in microseconds, and consecutive; `of` is N and M.

    80 and 80.0 are the same threshold, and 0 seconds are the same as no time.
    """
    if isinstance(condition, Comparison):
        meaning: list[Any] = [*_meaning(condition), severity]
    else:
        meaning = [condition.decisive, list(map(_meaning, condition.parts)), severity]
    if timing != (0, 0, 1):  # rules without timing keep the fingerprint that stored episodes have
        meaning += timing
    if of:
        meaning += ["of", *of]
    return blake2b(msgspec.json.encode(meaning), digest_size=8).hexdigest()


def _meaning(one: Comparison) -> list[Value | None]:
    parts = (one.key, one.operator, one.threshold, one.clear_threshold)
    return [int(part) if isinstance(part, float) and part.is_integer() else part for part in parts]
