"""A ledger and its samples -> one HTML page that needs nothing beside itself. Pure."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from itertools import pairwise

from app.loadtest.chart import Axis, ChartLine, chart
from app.loadtest.findings import LoadLedger, LoadVerdict, text
from app.loadtest.latencies import Latencies
from app.loadtest.progress import LoadSample

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5c6675; --page: #fff; --rule: #d9dee6; --good: #17663b;
  --bad: #a51d2d; --blue: #1f5fbf; --green: #1a7f4b; --amber: #a35a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --page: #14181f; --rule: #2d3440;
  --good: #67d391; --bad: #ff8a8a; --blue: #7db0ff; --green: #62d39a; --amber: #f0b25a; } }
body { margin: 2rem auto; max-width: 860px; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.when { color: var(--soft); margin: .2rem 0 1rem; }
.verdict { font-weight: 600; padding: .6rem .9rem; border-left: 5px solid; margin: 1rem 0; }
.good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; } td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--rule);
  text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child, td.words { text-align: left; } td.words { overflow-wrap: anywhere; }
figure { margin: 1.2rem 0; } svg { width: 100%; height: auto; }
.grid { stroke: var(--rule); } .title { font-weight: 600; fill: var(--ink); font-size: 13px; }
.tick, .axis { fill: var(--soft); font-size: 11px; } polyline { fill: none; stroke-width: 1.6; }
.blue { stroke: var(--blue); } .green { stroke: var(--green); } .amber { stroke: var(--amber); }
line.blue, line.green, line.amber { stroke-width: 3; }
"""
_VERDICTS = {
    LoadVerdict.COMPLETE: ("good", "Everything that was sent is there, once and unaltered."),
    LoadVerdict.INCOMPLETE: ("bad", "Not everything is there."),
    LoadVerdict.UNCHECKED: (
        "bad",
        "The broker has acknowledged everything. No database was named: nothing is checked there.",
    ),
    LoadVerdict.INTERRUPTED: ("bad", "The run was interrupted: nothing is checked."),
}
PERCENTILES = ("p50", "p90", "p95", "p99", "p99.9", "max")


def page(ledger: LoadLedger, samples: Sequence[LoadSample], acks: Latencies, rows: Latencies, began: datetime) -> str:
    """The report as HTML; `acks` and `rows` are all times of the run, `began` is when it began."""
    kind, words = _VERDICTS[ledger.verdict]
    head = f"{ledger.users:,} users, {ledger.devices:,} devices, {ledger.rate:,g} messages/s, {ledger.profile}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>iot-stream load: {escape(ledger.verdict.value)}</title><style>{_STYLE}</style></head><body>",
        "<h1>Load test</h1>",
        f'<p class="when">{began:%Y-%m-%d %H:%M:%S} UTC · {escape(head)}</p>',
        f'<p class="verdict {kind}">{escape(words)}</p>',
        "<h2>Ledger</h2>",
        _ledger(ledger),
        "<h2>Times, in milliseconds</h2>",
        _times(ledger),
        "<h2>Over the run</h2>",
        *_charts(samples),
        "<h2>How many within which time</h2>",
        _distribution(acks, rows),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _ledger(ledger: LoadLedger) -> str:
    """The lines of the text's ledger as a table: name, count, words."""
    rows = []
    for one in text(ledger)[1:]:
        if one.startswith("milliseconds"):
            break
        if one:
            count, _, words = one[20:].strip().partition("  ")
            rows.append(
                f'<tr><td>{escape(one[:20].strip())}</td><td>{count}</td><td class="words">{escape(words)}</td></tr>'
            )
    notes = "".join(f"<p>{escape(note)}</p>" for note in filter(None, (ledger.problem, *ledger.notes)))
    return f"<table>{''.join(rows)}</table>{notes}"


def _times(ledger: LoadLedger) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("count", *PERCENTILES))
    rows = []
    for name, figures in (
        ("due to sent", ledger.late),
        ("due to PUBACK", ledger.to_puback),
        ("due to row (a sample)", ledger.to_row),
    ):
        cells = "".join(f"<td>{figures[key]:,.1f}</td>" for key in PERCENTILES)
        rows.append(f"<tr><td>{name}</td><td>{figures['count']:,.0f}</td>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _charts(samples: Sequence[LoadSample]) -> list[str]:
    seconds = Axis("seconds since the start")
    rates = [
        ChartLine(name, kind, _rates([(one.at, count) for one in samples if (count := getattr(one, name)) is not None]))
        for name, kind in (("sent", "blue"), ("acked", "green"), ("stored", "amber"))
    ]
    made = [chart("Throughput", seconds, Axis("messages a second"), rates)]
    for title, field in (("Due to PUBACK", "ack"), ("Due to row", "row")):
        lines = [
            ChartLine(name, kind, [(one.at, 1000 * getattr(one, f"{field}_{name}")) for one in samples])
            for name, kind in (("p50", "green"), ("p99", "amber"))
        ]
        made.append(chart(f"{title}, of each second", seconds, Axis("milliseconds", log=True), lines))
    connected = ChartLine("connected", "blue", [(one.at, one.connected) for one in samples])
    return [*made, chart("Connections", seconds, Axis("connections"), [connected])]


def _rates(counts: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    return [
        (after, (more - less) / (after - before))
        for (before, less), (after, more) in pairwise(counts)
        if after > before
    ]


def _distribution(acks: Latencies, rows: Latencies) -> str:
    lines = [
        ChartLine(name, kind, [(1000 * end, 100 * seen / times.count) for end, seen in times.cumulative()])
        for name, kind, times in (("PUBACK", "green", acks), ("row", "amber", rows))
    ]
    return chart("Share of messages", Axis("milliseconds", log=True), Axis("percent"), lines)
