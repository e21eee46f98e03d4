"""Why something is refused, in words fit for a log, a terminal and a dead letter."""

from typing import final

from msgspec import Struct

from app.core.model.records import Reason, Stage


@final
class Fault(Struct, frozen=True, gc=False):
    """Why something is refused; a Fault and the record that it is about become a Rejected."""

    reason: Reason
    stage: Stage
    detail: str


def printable(value: object, limit: int = 60) -> str:
    """`value` as text for a `detail`: one line of at most `limit` characters, without any that a terminal or a log
    would act on.
    """
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    short = text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in short)
