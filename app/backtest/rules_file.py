"""A file of rules, as it may be published to users/{user}/config -> its RuleSet, or every mistake with its line."""

import codecs
import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from app.backtest.locate import line_of, line_of_syntax, lines_of
from app.core.rules.parse import RULES_BYTES_MAX
from app.core.rules.rule import InvalidRules, RuleSet
from app.core.schema.schema import Schema
from app.core.user_config.document import parse_config
from app.errors import PermanentError

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Mistake(Struct, frozen=True):
    """One thing that is wrong with a rule set."""

    line: int  # from 1 on
    what: str  # names the field, its value and what would be right


def read(text: bytes, user_id: str, schema: Schema, bytes_max: int = RULES_BYTES_MAX) -> RuleSet | tuple[Mistake, ...]:
    """Compile the rules of a file as a worker of `schema` would, or every mistake, by line; what else the file has is
    checked alone. `user_id` is whose the RuleSet is, `bytes_max` the most bytes that are taken. Never raises.
    """
    found = parse_config(text, user_id, schema, bytes_max)
    if isinstance(found, InvalidRules):
        return tuple(Mistake(*one) for one in sorted(_placed(text, found.reasons)))
    return found.rules or (
        Mistake(1, "rules: missing; maintenance windows and sampling alone can be published, not tried"),
    )


def valid(name: str, text: bytes, user_id: str, schema: Schema, bytes_max: int = RULES_BYTES_MAX) -> RuleSet:
    """The rules of a file that has to be right, as `read` has them. Raises PermanentError that names the file and every
    mistake.
    """
    found = read(text, user_id, schema, bytes_max)
    if isinstance(found, RuleSet):
        return found
    raise PermanentError("\n".join(["the rules are refused:", *(f"{name}:{one.line}: {one.what}" for one in found)]))


def text_of(path: Path) -> bytes:
    """The bytes of a file, without a byte order mark. Raises PermanentError when it cannot be read, or is UTF-16."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from error
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PermanentError(f"{path} is UTF-16: save the file as UTF-8")
    return text.removeprefix(codecs.BOM_UTF8)


def parts(text: bytes) -> tuple[str, str | None, str | None]:
    """The rules, the maintenance windows and the sampling of a file without mistakes, each as the text that
    user_configs has; None: the file has none.
    """
    if not text.lstrip().startswith(b"{"):
        return text.decode(), None, None
    fields = _fields(text)
    windows, sampling = (
        bytes(fields[name]).decode() if name in fields else None for name in ("maintenance", "sampling")
    )
    return bytes(fields["rules"]).decode(), windows, sampling


def in_force(own: str, fleet: str) -> list[dict[str, Any]]:
    """The rules that a user's devices have, as JSON objects: of two arrays without mistakes the user's `own`, then of
    those of all users the ones whose ids the user has not given to a rule.
    """
    rules: list[dict[str, Any]] = json.loads(own)
    known = {rule.get("id") or rule["key"] for rule in rules}
    more = [rule for rule in json.loads(fleet) if (rule.get("id") or rule["key"]) not in known]
    return [rule for rule in rules + more if rule.get("enabled") is not False]


def _placed(text: bytes, reasons: tuple[str, ...]) -> list[tuple[int, str]]:
    if any(reason.startswith("rules: not JSON") for reason in reasons):
        return [(line_of_syntax(reason, text), reason) for reason in reasons]
    lines = lines_of(text.decode())
    return [(line_of(reason, lines), reason) for reason in reasons]
