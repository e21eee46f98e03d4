"""The rows of programs: the answers of the addresses in; the name, state and work of each program out."""

from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from app.top.model.answers import PageAnswer
from app.top.model.counters import CounterHistory
from app.top.model.samples import MetricSamples
from app.top.model.snapshot import ProgramRow

# What a program's work is counted by; the first metric of each also identifies a program that does not name itself.
WORK = {
    "worker": "iot_rows_stored_total",
    "bridge": "iot_bridge_written_total",
    "notifier": "iot_notifier_published_total",
    **dict.fromkeys(("http", "tcp", "grpc", "quic", "ingest"), "iot_gateway_records_total"),
    "sink": "iot_sink_records_total",
}
WAYS_IN = ("bridge", "http", "tcp", "grpc", "quic", "ingest")
_OWN = {
    "worker": "db_circuit_breaker_state",
    "bridge": "iot_bridge_",
    "notifier": "iot_notifier_",
    "ingest": "iot_gateway_",
    "sink": "iot_sink_",
}
_SHOWN = 40  # characters of what a page says of itself


def program_of(samples: MetricSamples) -> str:
    """The program of a page: worker, bridge, notifier or what else iot_build_info says, of a sink with its name; empty
    for a page of another program.
    """
    said = plain_text(samples.label("iot_build_info", "program"), 20)
    program = said or next((name for name, metric in _OWN.items() if samples.has(metric)), "")
    name = samples.label("iot_sink_breaker_state", "sink") if program == "sink" else ""
    return f"{program} {plain_text(name)}".strip()


def names(programs: Mapping[str, str]) -> dict[str, str]:
    """URL -> program in, URL -> name out: programs of which there are several, and workers, are numbered in order; an
    address whose program is not known keeps its host:port.
    """
    several = {name for name, count in Counter(programs.values()).items() if count > 1} | {"worker"}
    seen: Counter[str] = Counter()
    found = {}
    for url, program in programs.items():
        seen[program] += 1
        numbered = f"{program} {seen[program]}" if program in several else program
        found[url] = numbered if program else where(url)
    return found


def where(url: str) -> str:
    """host:port of an address, without the account that it may name."""
    return urlsplit(url).netloc.rpartition("@")[2]


def plain_text(text: str, most: int = _SHOWN) -> str:
    """Words of another program, harmless on a terminal: no control characters, and at most `most` characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


def rows(
    answers: Iterable[PageAnswer],
    called: Mapping[str, str],
    histories: Mapping[str, CounterHistory],
    wall: float,
) -> tuple[ProgramRow, ...]:
    """A row for each answer, in their order; `called` and `histories` are by URL, `wall` is the time of day, seconds
    since 1970.
    """
    return tuple(_row(answer, called[answer.url], histories[answer.url], wall) for answer in answers)


def _row(answer: PageAnswer, name: str, history: CounterHistory, wall: float) -> ProgramRow:
    samples = answer.samples
    if samples is None:
        return ProgramRow(name, where(answer.url), False, plain_text(answer.problem, 80))
    born, missing = samples.value("process_start_time_seconds"), ", ".join(answer.missing)
    return ProgramRow(
        name,
        where(answer.url),
        up=True,
        problem=plain_text(f"not ready: {missing}", 80) if missing else "",
        version=plain_text(samples.label("iot_build_info", "version"), 20),
        per_second=history.rate(WORK.get(program_of(samples).partition(" ")[0], "")),
        cpu=history.rate("process_cpu_seconds_total"),
        memory=samples.value("process_resident_memory_bytes"),
        uptime=max(0.0, wall - born) if born is not None else None,
        ready=answer.ready,
    )
