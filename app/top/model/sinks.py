"""The rows of sinks: the pages of their programs in; how far each is, what it holds and what it drops, out."""

from collections.abc import Iterable, Mapping

from app.top.model.answers import PageAnswer
from app.top.model.counters import CounterHistory
from app.top.model.programs import plain_text
from app.top.model.samples import Key, MetricSamples
from app.top.model.snapshot import SinkRow

BREAKER = {0.0: "closed", 0.5: "half-open", 1.0: "open"}


def rows(
    answers: Iterable[PageAnswer], called: Mapping[str, str], histories: Mapping[str, CounterHistory]
) -> tuple[SinkRow, ...]:
    """A row for each sink of each program that answers, by name; `called` and `histories` are by URL."""
    found = [
        _row(sink, called[answer.url], answer.samples, histories[answer.url])
        for answer in answers
        if answer.samples is not None
        for sink in answer.samples.by("iot_sink_breaker_state", "sink")
    ]
    return tuple(sorted(found, key=lambda row: (row.sink, row.program)))


def _row(sink: str, program: str, samples: MetricSamples, history: CounterHistory) -> SinkRow:
    outcomes = _of(samples.values, "iot_sink_records_total", sink, "outcome")
    dropped = _of(samples.values, "iot_sink_top_series_dropped", sink, "user")
    most = dropped or _of(samples.values, "iot_sink_top_series", sink, "user")
    first = max(most, key=lambda user: most[user], default="")
    return SinkRow(
        sink=plain_text(sink),
        program=program,
        lag=_number(samples, "iot_sink_lag", sink),
        waiting=_number(samples, "iot_sink_waiting_seconds", sink),
        per_second=_written(history, sink),
        held_bytes=_number(samples, "iot_sink_held_bytes", sink),
        breaker=BREAKER.get(_number(samples, "iot_sink_breaker_state", sink) or 0.0, "?"),
        series=_number(samples, "iot_sink_series", sink),
        series_limit=_number(samples, "iot_sink_series_limit", sink),
        series_dropped=sum(_of(samples.values, "iot_sink_series_dropped_total", sink, "limit").values()),
        most_series=f"{plain_text(first, 28)} {most[first]:,.0f}" if first and most[first] else "",
        received=_number(samples, "iot_sink_received_total", sink) or 0.0,
        outcomes={plain_text(name, 20): count for name, count in outcomes.items() if count},
        held=_number(samples, "iot_sink_held_records", sink) or 0.0,
    )


def _number(samples: MetricSamples, name: str, sink: str) -> float | None:
    return samples.values.get((name, (("sink", sink),)))


def _of(values: Mapping[Key, float], name: str, sink: str, label: str) -> dict[str, float]:
    """The samples of a metric of one sink by another of its labels."""
    found = {}
    for (sample, labels), value in values.items():
        if sample == name:
            one = dict(labels)
            if one.get("sink") == sink:
                found[one.get(label, "")] = value
    return found


def _written(history: CounterHistory, sink: str) -> float | None:
    if history.seconds <= 0:
        return None
    return _of(history.grown, "iot_sink_records_total", sink, "outcome").get("written", 0.0) / history.seconds
