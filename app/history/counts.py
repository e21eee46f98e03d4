"""What became of the records of a replay into a table: in, the books of each batch; out, counts and examples."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from app.core.batch.books import books
from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput

EXAMPLES = 3  # of dead records, for each reason


class HistoryCounts(Struct):
    """Numbers of records, as far as the replay is committed."""

    read: int = 0
    stored: int = 0  # rows that are new
    there: int = 0  # rows whose key the table had
    again: int = 0  # redeliveries of messages without a time
    other: int = 0  # settings, statuses, commands: no readings
    dead: Counter[str] = field(default_factory=Counter)  # by reason: a worker makes a dead letter of each
    dropped: Counter[str] = field(default_factory=Counter)  # by policy
    examples: dict[str, list[str]] = field(default_factory=dict)  # by reason, PARTITION:OFFSET and what is wrong

    def add(self, partition: int, records: Sequence[Any], output: BatchOutput, written: WriteResult) -> None:
        """Count a batch whose rows are stored. Raises BooksError unless each record is accounted for once."""
        found = books(records, output, written)
        self.read += found.received
        self.stored += written.rows
        self.there += written.duplicates
        self.again += len(output.again)
        self.other += len(output.effects) + len(output.commands)
        self.dropped.update(output.dropped)
        for one in [*output.rejected, *output.refusals(written.refused)]:
            self.dead[one.reason] += 1
            examples = self.examples.setdefault(str(one.reason), [])
            if len(examples) < EXAMPLES:
                examples.append(f"{partition}:{one.record.offset} {one.detail}")

    def as_json(self) -> dict[str, Any]:
        """All counts as built-in types."""
        return {
            "read": self.read, "stored": self.stored, "there": self.there, "again": self.again, "other": self.other,
            "dead": {str(reason): count for reason, count in self.dead.most_common()},
            "dropped": dict(self.dropped.most_common()),
        }  # fmt: skip
