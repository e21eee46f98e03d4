"""The letters of a course, read without sending any."""

from collections.abc import AsyncIterator
from typing import Any

from app.deadletters.group import Course
from app.deadletters.letter import Letter, letter_of
from app.kafka.reading.record_log import RecordLog


async def scan(log: RecordLog, course: Course) -> AsyncIterator[tuple[Any, Letter | None]]:
    """Yield each record that is chosen, with its letter; with None a record without an envelope, where every letter is
    meant. Raises KAFKA_ERRORS.
    """
    begin = {tp: at for tp, at in course.at.items() if at < course.ends[tp]}
    if not begin:
        return
    takes, everything = course.chooser.takes, course.chooser.selection.is_all
    async for records in log.follow(begin, course.ends):
        for record in records:
            letter = letter_of(record)
            if letter is None:
                if everything:
                    yield record, None
            elif takes(letter):
                yield record, letter
