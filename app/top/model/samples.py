"""A page of /metrics: its text in; out, the numbers by name and labels, or ValueError that says why it is no page.

The page may come from any program. Its reading is bounded in bytes, lines and labels, and a number that is none, or
that no process of ours can have, is left out.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

PAGE_BYTES = 2 << 20  # that of a worker has 60 kB
MOST_NUMBERS = 20_000  # of a worker with 1,000 partitions 8,000
LINE_CHARACTERS = 4096  # the parser's time grows with the square of a line
LARGEST = 1e18  # more than any of our counters reaches, and a sum of them is still a number
_COUNTERS = ("_total", "_bucket", "_count", "_sum")

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]  # name, labels in order


class MetricSamples(Struct, frozen=True):
    """The metrics of one process at one moment."""

    values: Mapping[Key, float]

    def value(self, name: str) -> float | None:
        """The value of a metric without labels; None when the page has none of that name."""
        return self.values.get((name, ()))

    def by(self, name: str, label: str) -> dict[str, float]:
        """The sums of a metric by one of its labels; samples without that label are under an empty text."""
        return summed(self.values, name, label)

    def label(self, name: str, label: str) -> str:
        """A label of the first sample of that name; empty when there is none."""
        return next((dict(labels).get(label, "") for sample, labels in self.values if sample == name), "")

    def has(self, beginning: str) -> bool:
        """Whether any metric's name begins so."""
        return any(name.startswith(beginning) for name, _ in self.values)

    def counters(self) -> Iterator[tuple[Key, float]]:
        """The samples that only grow while the process lives, by their names."""
        return ((key, value) for key, value in self.values.items() if key[0].endswith(_COUNTERS))


def summed(values: Mapping[Key, float], name: str, label: str) -> dict[str, float]:
    """The samples of one name, added up by one of their labels."""
    found: dict[str, float] = {}
    for (sample, labels), value in values.items():
        if sample == name:
            key = dict(labels).get(label, "")
            found[key] = found.get(key, 0.0) + value
    return found


def parse(page: bytes) -> MetricSamples:
    """Read the text of a page, of at most PAGE_BYTES. Raises ValueError that says why when it is no page of metrics, or
    none of ours.
    """
    text = page.decode(errors="replace")
    if any(len(line) > LINE_CHARACTERS for line in text.splitlines()):
        raise ValueError(f"no metrics page: a line of more than {LINE_CHARACTERS} characters")
    values: dict[Key, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if abs(sample.value) <= LARGEST:  # false of NaN
                    values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # all of them seen for a damaged page
        shown = str(error)[:60].encode("ascii", "backslashreplace").decode()
        raise ValueError(f"no metrics page: {type(error).__name__} {shown!r}") from error
    if len(values) > MOST_NUMBERS:
        raise ValueError(f"no metrics page of ours: more than {MOST_NUMBERS:,} numbers")
    if not values:
        raise ValueError("no metrics page: the page holds no number")
    return MetricSamples(values)
