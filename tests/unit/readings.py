"""Readings and rules for tests, from what matters to the test alone."""

from datetime import UTC, datetime, timedelta

import msgspec

from app.core.model.records import Reading
from app.core.rules.parse import parse
from app.core.rules.rule import Rule, RuleSet, compile_for
from tests import DEFAULT

START = datetime(2025, 1, 1, tzinfo=UTC)


def reading(
    seconds: float = 0,
    *,
    temperature: float | None = None,
    battery: int | None = None,
    user: str = "u",
    device: str = "d",
    **extra: object,
) -> Reading:
    """A reading `seconds` after START. `extra` may hold msgspec.Raw for exact JSON."""
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in extra.items()}
    text = msgspec.json.encode(raw).decode(errors="replace")
    time = START + timedelta(seconds=seconds)
    made: Reading = DEFAULT.reading(time, user, device, 1, raw, text, temperature, battery)
    return made


def rule(key: str = "temperature", operator: str = ">", threshold: object = 80, **more: object) -> dict[str, object]:
    return {"key": key, "operator": operator, "threshold": threshold, "message": "m", **more}


def ruleset(*definitions: dict[str, object]) -> RuleSet:
    parsed = parse(msgspec.json.encode(definitions), "u", DEFAULT)
    assert isinstance(parsed, RuleSet), parsed
    return parsed


def rules(*definitions: dict[str, object], device: str = "d") -> tuple[Rule, ...]:
    return compile_for(ruleset(*definitions), device)
