"""The answers of one round of looking, before anything is computed of them."""

from collections.abc import Mapping

from msgspec import Struct

from app.top.model.samples import MetricSamples
from app.top.model.snapshot import AlertRow


class PageAnswer(Struct, frozen=True):
    """The answer of one address; `samples` is None when the address is down, and `problem` says why."""

    url: str
    at: float  # seconds of a clock that only goes forward
    samples: MetricSamples | None = None
    problem: str = ""
    ready: bool | None = None  # None: the address has no /ready
    missing: tuple[str, ...] = ()  # what /ready misses


class GroupAnswer(Struct, frozen=True):
    """The workers' consumer group and the input topic, as Kafka has them, by partition; `problem` when it does not
    answer.
    """

    at: float
    group: str = ""
    state: str = ""
    members: int = 0
    ends: Mapping[int, int] = {}
    starts: Mapping[int, int] = {}
    committed: Mapping[int, int] = {}
    owners: Mapping[int, str] = {}
    waiting_since: Mapping[int, float] = {}  # when the oldest record that waits was written, seconds since 1970
    problem: str = ""


class AlertsAnswer(Struct, frozen=True):
    """Open alerts in the database; `problem` when it does not answer."""

    at: float
    count: int | None = None
    newest: tuple[AlertRow, ...] = ()
    problem: str = ""
