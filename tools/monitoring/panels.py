"""The parts of a dashboard as values; out, the JSON that Grafana 11 reads.

A panel says what it asks and what it means; where it stands follows from the order and the widths of its row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Steps = tuple[tuple[float | None, str], ...]  # (from this value on, colour); the first from None: below all others

COLUMNS = 24  # of Grafana's grid
SCHEMA = 40  # of Grafana 11


@dataclass(frozen=True, slots=True)
class Source:
    """A data source that the dashboard lets its reader choose; `uid` is that of provisioning/datasources."""

    kind: str
    uid: str
    title: str

    @property
    def reference(self) -> Json:
        """The data source as a panel or a query has it, so that the variable decides."""
        return {"type": self.kind, "uid": f"${{{self.uid}}}"}

    @property
    def variable(self) -> Json:
        """The choice of the data source at the head of the dashboard."""
        current = {"text": self.title, "value": self.uid}
        return {"type": "datasource", "name": self.uid, "label": self.title, "query": self.kind, "current": current}


PROMETHEUS = Source("prometheus", "prometheus", "Prometheus")
LOKI = Source("loki", "loki", "Loki")
TEMPO = Source("tempo", "tempo", "Tempo")
POSTGRES = Source("grafana-postgresql-datasource", "postgres", "PostgreSQL")


@dataclass(frozen=True, slots=True)
class Prom:
    """A query in PromQL; `exemplar` shows the traces that a histogram carries."""

    expr: str
    legend: str = ""
    instant: bool = False
    exemplar: bool = False

    source = PROMETHEUS

    def json(self) -> Json:
        """The query as a target of Grafana."""
        made: Json = {"expr": self.expr, "legendFormat": self.legend or "__auto", "range": not self.instant}
        if self.instant:
            made |= {"instant": True, "format": "table"}
        return made | ({"exemplar": True} if self.exemplar else {})


@dataclass(frozen=True, slots=True)
class Sql:
    """A query in SQL, with Grafana's macros; `series`: its rows are (time, name, value), else a table."""

    text: str
    series: bool = False

    source = POSTGRES

    def json(self) -> Json:
        """The query as a target of Grafana, its blanks folded."""
        shape = "time_series" if self.series else "table"
        return {"rawSql": " ".join(self.text.split()), "rawQuery": True, "editorMode": "code", "format": shape}


@dataclass(frozen=True, slots=True)
class LogQl:
    """A query in LogQL for lines of logs."""

    expr: str

    source = LOKI

    def json(self) -> Json:
        """The query as a target of Grafana, of 200 lines at most."""
        return {"expr": self.expr, "queryType": "range", "maxLines": 200}


@dataclass(frozen=True, slots=True)
class TraceQl:
    """A query in TraceQL for traces that match."""

    query: str

    source = TEMPO

    def json(self) -> Json:
        """The query as a target of Grafana, of 20 traces at most."""
        return {"query": self.query, "queryType": "traceql", "limit": 20, "tableType": "traces"}


Query = Prom | Sql | LogQl | TraceQl


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel; `kind` is Grafana's type, `unit` Grafana's name of one, `width` and `height` are cells of its grid.
    `extra` goes into the field defaults, `options` beside those of the kind.
    """

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str
    width: int = 8
    height: int = 8
    steps: Steps = ()
    extra: Json | None = None
    options: Json | None = None
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()
    links: tuple[Json, ...] = ()

    def json(self, number: int, x: int, y: int) -> Json:
        """The panel with the id `number`, its upper left corner at column `x` (0 to 23) and line `y` of the grid."""
        source = self.queries[0].source.reference
        made: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": source,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": self._defaults(), "overrides": list(self.overrides)},
            "options": {**OPTIONS[self.kind], **(self.options or {})},
            "targets": [
                {"refId": chr(ord("A") + index), "datasource": query.source.reference, **query.json()}
                for index, query in enumerate(self.queries)
            ],
        }
        if self.transformations:
            made["transformations"] = list(self.transformations)
        if self.links:
            made["links"] = list(self.links)
        return made

    def _defaults(self) -> Json:
        made: Json = {"unit": self.unit} | CUSTOM.get(self.kind, {}) | (self.extra or {})
        if self.steps:
            steps = [{"value": value, "color": colour} for value, colour in self.steps]
            made |= {"thresholds": {"mode": "absolute", "steps": steps}}
            if self.kind == "timeseries":
                made["custom"] = {**made["custom"], "thresholdsStyle": {"mode": "dashed"}}
        return made


OPTIONS: dict[str, Json] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "fields": ""}},
    "logs": {
        "showTime": True, "wrapLogMessage": True, "enableLogDetails": True, "sortOrder": "Descending",
        "dedupStrategy": "none", "prettifyLogMessage": False, "showCommonLabels": False, "showLabels": False,
    },
}  # fmt: skip
CUSTOM: dict[str, Json] = {
    "timeseries": {
        "custom": {
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False,
            "stacking": {"mode": "none", "group": "A"}, "thresholdsStyle": {"mode": "off"},
        }
    },
}  # fmt: skip
STACKED: Json = {
    "min": 0,
    "custom": {**CUSTOM["timeseries"]["custom"], "fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}},
}
FROM_ZERO: Json = {"min": 0}


def series(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """A graph over time, from zero unless `extra` says otherwise; `more` are fields of Panel."""
    return Panel("timeseries", title, description, queries, unit, **{"extra": FROM_ZERO, **more})


def stat(title: str, description: str, unit: str, query: Query, steps: Steps = (), **more: Any) -> Panel:
    """One number, with its colour by `steps`; `more` are fields of Panel."""
    return Panel("stat", title, description, (query,), unit, steps=steps, **{"width": 4, "height": 4, **more})


def table(title: str, description: str, *queries: Query, unit: str = "none", **more: Any) -> Panel:
    """A table, from the answers of `queries`; `more` are fields of Panel."""
    return Panel("table", title, description, queries, unit, **more)


def renamed(**names: str) -> Json:
    """A transformation that gives columns other names, and leaves the time of an instant query out. `names` are
    old="new", __ in the old one stands for a blank; an empty new one leaves the column out.
    """
    hidden = {"Time": True, **{old: True for old, new in names.items() if not new}}
    kept = {old.replace("__", " "): new for old, new in names.items() if new}
    return {"id": "organize", "options": {"excludeByName": hidden, "renameByName": kept}}


def column(name: str, **properties: Any) -> Json:
    """An override for one column or series: unit, thresholds, links, ...; __ in the name of a property stands for a
    dot.
    """
    values = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": values}


def mapped(words: Iterable[tuple[float, str, str]]) -> Json:
    """A field default that shows numbers as words: (value, word, colour)."""
    options = {f"{value:g}": {"text": word, "color": colour} for value, word, colour in words}
    return {"mappings": [{"type": "value", "options": options}]}


@dataclass(frozen=True, slots=True)
class Row:
    """A heading, and the panels below it from left to right; `folded` until somebody opens it."""

    title: str
    panels: Sequence[Panel]
    folded: bool = False


def laid_out(rows: Iterable[Row]) -> list[Json]:
    """All panels at their places, the ids from 1 in the order they are read; those of a folded row are within its
    heading.
    """
    made: list[Json] = []
    number, y = 1, 0
    for row in rows:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        head: Json = {"id": number, "type": "row", "title": row.title, "collapsed": row.folded, "gridPos": place}
        number, y, x, height, inside = number + 1, y + 1, 0, 0, []
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            inside.append(panel.json(number, x, y))
            number, x, height = number + 1, x + panel.width, max(height, panel.height)
        y += height
        made += [{**head, "panels": inside}] if row.folded else [{**head, "panels": []}, *inside]
    return made


def dashboard(uid: str, title: str, about: str, rows: Iterable[Row], variables: Iterable[Json], **more: Any) -> Json:
    """The whole file, as built-in types for JSON; `about` is its description, `more` are fields of the dashboard."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "tags": ["iot-stream"],
        "annotations": {"list": []},
        "templating": {"list": list(variables)},
        "panels": laid_out(rows),
        **more,
    }
