"""What `iot-stream tap` shows a person of a record: a line with its place and ids, its headers, its payload."""

import sys
from collections.abc import Iterator

from rich.console import Console

from app.inspect.text import hex_dump, is_text, shown, time_of
from app.inspect.views import RecordView

RED, GREEN, YELLOW, CYAN, DIM, BOLD = "31", "32", "33", "36", "2", "1"


class Paint:
    """Colours for a terminal, none for a file or pipe, nor where NO_COLOR or TERM=dumb says so."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, colour: str) -> str:
        """The text, which has no control characters of its own any more, in a colour."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._on and text else text


def paint() -> Paint:
    """Colours as standard output wants them."""
    return Paint(sys.stdout.isatty() and Console().color_system is not None)


def lines(view: RecordView, paint: Paint, *, headers: bool = True) -> Iterator[str]:
    """The lines that show a record to a person; nothing in them that a terminal acts on but our own colours."""
    yield " ".join(filter(None, _head(view, paint)))
    if view.error or view.reason:
        why = f"{view.stage}: {view.reason}" if view.reason else "cannot be decoded:"
        error = view.error.removesuffix(f" ({why})")  # as dead letters have it
        yield f"    {paint(shown(why), RED)} {shown(error)}"
    if headers and view.headers:
        named = (f"{shown(name)}={'' if value is None else shown(value)}" for name, value in view.headers)
        yield f"    {paint('headers', DIM)} {paint(' '.join(named), DIM)}"
    yield from _payload(view.payload, paint)


def _head(view: RecordView, paint: Paint) -> Iterator[str]:
    yield paint(time_of(view.at_ms) or f"time {view.at_ms}", DIM)
    yield shown(view.where)
    yield paint(shown(view.kind), CYAN)
    yield paint(shown("/".join(filter(None, (view.user_id, view.device_id)))), BOLD)
    yield "" if view.sequence_id is None else f"sequence_id {view.sequence_id}"
    yield "retained" if view.place.get("retained") else ""
    if "source" in view.more:
        source = view.more["source"]
        yield shown(f"from {source['topic']}-{source['partition']}@{source['offset']}")
        yield f"replayed {view.more['replay_count']} times" if view.more["replay_count"] else ""


def _payload(payload: bytes | None, paint: Paint) -> Iterator[str]:
    if not payload:
        yield f"    {paint('no payload' if payload is None else 'empty payload', YELLOW)}"
    elif is_text(payload):
        yield f"    {shown(payload)}"
    else:
        yield from (f"    {line}" for line in hex_dump(payload))
