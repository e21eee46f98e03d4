"""The message of a rule with placeholders, such as `{device_id} has {value}` -> a function that fills them in.

A placeholder is filled in when its alert is sent. One that the reading has nothing for stays as it is written, and so
does every other brace: messages from before there were placeholders say what they said.
"""

import re
from collections.abc import Callable

from msgspec import Struct

from app.core.model.alert_event import Value
from app.core.model.fault import printable
from app.core.model.records import Reading
from app.core.rules.condition_checks import key as problems_of_key
from app.core.rules.field_readers import Kind, Read, reader, reportable
from app.core.rules.rule_checks import MESSAGE_MAX
from app.core.schema.schema import Schema

# Of the alert, not of the payload; a field of the payload with such a name has no placeholder.
FACTS = ("value", "threshold", "device_id", "user_id", "rule_id", "severity", "time", "first_seen")

_PLACEHOLDER = re.compile(r"\{([^{}:]+)(?::\.([0-9])f?)?\}")
_KINDS: tuple[Kind, ...] = ("number", "text", "truth")


class AlertFacts(Struct, frozen=True, gc=False):
    """What FACTS stand for in the message of one event; times in RFC 3339."""

    value: Value
    threshold: Value
    device_id: str
    user_id: str
    rule_id: str
    severity: str
    time: str
    first_seen: str


def placeholders(message: str) -> int:
    """The number of what may be placeholders in the message of a rule."""
    return sum(1 for _ in _PLACEHOLDER.finditer(message))


Fill = Callable[[Reading, AlertFacts], str]
_Part = Callable[[Reading, AlertFacts], str]


def fill_of(message: str, schema: Schema) -> Fill | None:
    """The function that fills in `message` from a reading of `schema`; None for a message without placeholders.

    The function never raises; what it gives has at most MESSAGE_MAX characters.
    """
    parts: list[str | _Part] = []
    end = 0
    for found in _PLACEHOLDER.finditer(message):
        name, digits = found[1], found[2]
        if name not in FACTS and any(problems_of_key({"key": name})):
            continue
        parts += [message[end : found.start()], _part(name, found[0], None if digits is None else int(digits), schema)]
        end = found.end()
    if not parts:
        return None
    parts.append(message[end:])

    def fill(reading: Reading, facts: AlertFacts) -> str:
        text = "".join([part if isinstance(part, str) else part(reading, facts) for part in parts])
        return text if len(text) <= MESSAGE_MAX else text[: MESSAGE_MAX - 1] + "…"

    return fill


def _part(name: str, written: str, digits: int | None, schema: Schema) -> _Part:
    """The function for one placeholder; `digits`: of a number, behind the point; None: all that it has."""
    if name in FACTS:
        return lambda _, facts: _shown(getattr(facts, name), digits)
    reads: tuple[Read, ...] = tuple(reader(schema, name, kind) for kind in _KINDS)

    def part(reading: Reading, _: AlertFacts) -> str:
        values = (reportable(read(reading)) for read in reads)
        value = next((one for one in values if one is not None), None)
        return written if value is None else _shown(value, digits)

    return part


def _shown(value: Value, digits: int | None) -> str:
    if isinstance(value, str):
        return printable(value, MESSAGE_MAX)
    if isinstance(value, bool):
        return "true" if value else "false"
    if digits is not None:
        return f"{value:.{digits}f}"
    return repr(value).removesuffix(".0")
