"""A user's configuration as JSON -> compiled rules and maintenance windows, or every reason why not.

Either an array of rules, or an object with `rules`, `maintenance`, or both; what an object leaves out stays as it is.
"""

from typing import Any

import msgspec
from msgspec import Struct

from app.core.maintenance import Window, compile_windows, problems_of
from app.core.rules import RULES_BYTES_MAX, InvalidRules, RuleSet, parse

STORED_BYTES_MAX = 4 * RULES_BYTES_MAX  # jsonb gives back what was taken with more spaces and escapes


class Config(Struct, frozen=True, gc=False):
    """None for what the document does not speak of."""

    rules: RuleSet | None
    windows: tuple[Window, ...] | None


def parse_config(text: str | bytes, user_id: str, bytes_max: int = RULES_BYTES_MAX) -> Config | InvalidRules:
    """Compile a document; one mistake refuses it whole. Never raises for any text."""
    windows = _windows_in(text) if len(text) <= bytes_max else msgspec.UNSET
    if windows is msgspec.UNSET:
        rules = parse(text, user_id, bytes_max)
        return rules if isinstance(rules, InvalidRules) else Config(rules, None)
    reasons = tuple(f"maintenance{problem}" for problem in problems_of(windows))
    document = msgspec.json.decode(text)
    found = parse(text, user_id, bytes_max) if "rules" in document else None
    if isinstance(found, InvalidRules):
        return InvalidRules(user_id, found.reasons + reasons)
    return InvalidRules(user_id, reasons) if reasons else Config(found, compile_windows(windows))


def _windows_in(text: str | bytes) -> Any:
    """What the document has as `maintenance`; UNSET if it has none, or is no object."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.UNSET
    return document.get("maintenance", msgspec.UNSET) if isinstance(document, dict) else msgspec.UNSET
