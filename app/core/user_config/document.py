"""A user's configuration as JSON -> compiled rules, maintenance windows and sampling, or every reason why not.

The document is an array of rules, or an object with some of PARTS; a part that the object leaves out stays as it was.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from app.core.rules import maintenance
from app.core.rules.maintenance import MaintenanceWindow, compile_windows
from app.core.rules.parse import RULES_BYTES_MAX, parse
from app.core.rules.rule import InvalidRules, RuleSet
from app.core.sampling import checks
from app.core.sampling.compile import UserSampling, compile_sampling, too_many_windows
from app.core.schema.schema import Schema

PARTS = ("rules", "maintenance", "sampling")
# Each part may have come alone, and jsonb gives back what was taken with more spaces and escapes.
STORED_BYTES_MAX = 2 * len(PARTS) * RULES_BYTES_MAX


class Config(Struct, frozen=True, gc=False):
    """A compiled configuration; a part is None where the document does not name it."""

    rules: RuleSet | None = None
    windows: tuple[MaintenanceWindow, ...] | None = None
    sampling: UserSampling | None = None


def parse_config(
    text: str | bytes, user_id: str, schema: Schema, bytes_max: int = RULES_BYTES_MAX
) -> Config | InvalidRules:
    """Compile a document for readings of `schema`; one mistake refuses the whole document. Never raises, whatever the
    text.
    """
    parts = _beside_rules(text) if len(text) <= bytes_max else {}
    rules: RuleSet | None = None
    reasons: tuple[str, ...] = ()
    if "rules" in parts or not parts.keys() & set(PARTS):
        found = parse(text, user_id, schema, bytes_max)
        if isinstance(found, RuleSet):
            rules, many = found, too_many_windows(found)
            reasons = (many,) if many else ()
        else:
            reasons = found.reasons
    reasons += tuple(_problems(parts))
    if reasons:
        return InvalidRules(user_id, reasons)
    windows = compile_windows(parts["maintenance"]) if "maintenance" in parts else None
    sampling = compile_sampling(parts["sampling"], schema) if "sampling" in parts else None
    return Config(rules, windows, sampling)


def _problems(document: dict[str, Any]) -> Iterator[str]:
    for name, problems_of in (("maintenance", maintenance.problems_of), ("sampling", checks.problems_of)):
        if name in document:
            yield from (f"{name}{problem}" for problem in problems_of(document[name]))


def _beside_rules(text: str | bytes) -> dict[str, Any]:
    """The document, if it is an object; what is wrong with any other document is for the rules' checks to say."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
