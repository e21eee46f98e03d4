"""What `iot-stream trace` shows a person: where the message is, its records, its row, and its spans."""

from collections.abc import Iterator, Sequence
from typing import Any

from app.backtest.duration import spoken
from app.cli.render.tap import DIM, GREEN, RED, YELLOW, Paint
from app.inspect.answer import gateway_of
from app.inspect.decoding import trace_id_of
from app.inspect.sighting import FoundLetter, MessageState, Sighting
from app.inspect.spans import MOST, FoundSpan, tree, words
from app.inspect.text import shown, time_of
from app.inspect.where_is import MessageTrace

COLOURS = {
    MessageState.STORED: GREEN,
    MessageState.DEAD_LETTERED: RED,
    MessageState.WAITING: YELLOW,
    MessageState.DROPPED: YELLOW,
    MessageState.UNACCOUNTED: RED,
    MessageState.NOT_SEEN: YELLOW,
}
WORDS = {MessageState.DEAD_LETTERED: "dead-lettered", MessageState.NOT_SEEN: "not seen"}


def lines(found: MessageTrace, now_ms: int, paint: Paint) -> Iterator[str]:
    """The lines that show a person where a message is; `now_ms` is milliseconds since 1970. Nothing in them that a
    terminal acts on but our own colours.
    """
    sought, state = found.sought, found.state
    who = "/".join(filter(None, (sought.user_id, sought.device_id))) or "a message"
    number = "" if sought.sequence_id is None else f", sequence_id {sought.sequence_id}"
    traced = f", trace {sought.trace_id}" if sought.trace_id else ""
    yield f"{_state(state, paint)}: {shown(who)}{number}{traced}"
    for one in found.sightings:
        yield from _sighting(one, now_ms, paint)
    for row in found.rows:
        yield _line(paint, "row", f"of no record that was read: {shown(row.columns)}")
    for letter in found.letters:
        yield _line(paint, "dead letter", _letter(letter, now_ms))


def span_lines(spans: Sequence[FoundSpan], paint: Paint) -> Iterator[str]:
    """The lines of a tree for each trace, MOST spans of each at most."""
    for trace_id in dict.fromkeys(one.trace_id for one in spans):
        of_one = [one for one in spans if one.trace_id == trace_id]
        yield _line(paint, "spans", f"of trace {shown(trace_id)}")
        begin = min(one.start_us for one in of_one)
        for branch, span in tree(of_one):
            said = words(span, begin)
            yield f"  {paint(branch, DIM)}{paint(said, RED) if span.error else said}"
        if len(of_one) > MOST:
            yield f"  ... ({len(of_one)} spans)"


def _sighting(one: Sighting, now_ms: int, paint: Paint) -> Iterator[str]:
    record = one.found.record
    way, traced = gateway_of(record), trace_id_of(record)
    facts = [_place(record, now_ms), f"by {way}" if way else "", f"trace {traced}" if traced else ""]
    yield _line(paint, "record", ", ".join(filter(None, map(shown, facts))))
    yield f"            {_state(one.state, paint)}: {shown(one.why)}"
    if one.row:
        yield _line(paint, "row", shown(one.row.columns))
    if one.letter:
        yield _line(paint, "dead letter", _letter(one.letter, now_ms))


def _letter(one: FoundLetter, now_ms: int) -> str:
    letter = one.letter
    of = f"of {letter.source_topic}-{letter.source_partition}@{letter.source_offset}"
    again = f", replayed {letter.replay_count} times" if letter.replay_count else ""
    return shown(f"{_place(one.record, now_ms)}, {of}, {letter.stage}: {letter.reason}{again}; {letter.error}")


def _place(record: Any, now_ms: int) -> str:
    age = spoken(max(0.0, (now_ms - record.timestamp) / 1000))
    when = time_of(record.timestamp)
    return f"{record.topic}-{record.partition}@{record.offset}, " + (f"{when}, {age} ago" if when else "no time")


def _state(state: MessageState, paint: Paint) -> str:
    return paint(WORDS.get(state, state), COLOURS[state])


def _line(paint: Paint, name: str, text: str) -> str:
    return f"{paint(name, DIM)}{' ' * (12 - len(name))}{text}"
