"""The dashboards are as tools/monitoring makes them, query metrics that exist, and say what they show."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import compose, dashboards, programs
from tests.test_docs import anchors
from tools.documents import DOCS, ROOT
from tools.monitoring.files import DASHBOARDS, RULES, files, prometheus_rule
from tools.monitoring.operations import RUNBOOK

QUERIES = dashboards.queries() | {rule.get("alert") or rule["record"]: rule["expr"] for rule in dashboards.rules()}
PANELS = [(name, panel) for name in dashboards.NAMES for panel in dashboards.panels(name)]
each_panel = pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{name}: {p['title']}" for name, p in PANELS])
UNITS = {
    "none", "short", "percent", "percentunit", "bytes", "s", "celsius", "mps", "rowsps", "recps", "eps", "ops",
    "Bps",
}  # fmt: skip


def test_the_files_are_what_the_sources_make() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in files().items() if path.read_text() != text]
    assert stale == [], "run `make docs`"
    assert {path.name for path in DASHBOARDS.iterdir()} == {f"{name}.json" for name in dashboards.NAMES}
    assert prometheus_rule(RULES.read_text().replace("for: 2m", "for: 3m", 1)) not in files().values()


def test_they_fit_into_a_config_map() -> None:
    """1 MiB, and the script of the local cluster puts them and the alerts into one."""
    assert sum(path.stat().st_size for path in (*DASHBOARDS.iterdir(), RULES)) < 900_000


@pytest.mark.parametrize("name", dashboards.NAMES)
def test_a_dashboard_is_whole(name: str) -> None:
    made = dashboards.dashboard(name)
    assert made["uid"] == f"iot-{name}"
    assert made["schemaVersion"] >= 40
    heads = [panel for panel in made["panels"] if panel["type"] == "row"]
    ids = [panel["id"] for panel in (*heads, *dashboards.panels(name))]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in dashboards.panels(name)]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(cells)) == len(cells), "no panel covers another"
    first = [panel["type"] for panel in dashboards.panels(name)][:6]
    assert first == ["stat"] * 6, "numbers first"


@each_panel
def test_a_panel_says_what_it_shows(name: str, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [{"value": None}])
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    sources = {variable["name"] for variable in dashboards.dashboard(name)["templating"]["list"]
               if variable["type"] == "datasource"}  # fmt: skip
    for used in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
        assert used["uid"].strip("${}") in sources


def test_no_two_panels_have_one_title() -> None:
    for name in dashboards.NAMES:
        titles = [panel["title"] for panel in dashboards.panels(name)]
        assert sorted(set(titles)) == sorted(titles)


def test_the_sources_are_those_that_are_provisioned() -> None:
    provisioned = sources()
    for name in dashboards.NAMES:
        for variable in dashboards.dashboard(name)["templating"]["list"]:
            if variable["type"] == "datasource":
                kind = provisioned[variable["current"]["value"]]["type"]
                assert {"postgres": "grafana-postgresql-datasource"}.get(kind, kind) == variable["query"]


def sources() -> dict[str, dict[str, Any]]:
    """The provisioned data sources, by uid."""
    text = (dashboards.PROVISIONED / "datasources" / "datasources.yml").read_text()
    return {source["uid"]: source for source in yaml.safe_load(text)["datasources"]}


def test_a_log_line_leads_to_its_trace_and_a_span_to_its_logs() -> None:
    found = sources()
    (field,) = found["loki"]["jsonData"]["derivedFields"]
    trace = "0af7651916cd43dd8448eb211c80319c"
    for line in (
        f'{{"event": "x", "trace_id": "{trace}", "span_id": "b7ad6b7169203331"}}',
        f'{{"trace_id":"{trace}"}}',
    ):
        matched = re.search(field["matcherRegex"], line)
        assert matched
        assert matched[1] == trace
    assert not re.search(field["matcherRegex"], '{"trace_id": "", "event": "x"}')
    assert (field["datasourceUid"], field["url"]) == ("tempo", "$${__value.raw}")
    logs = found["tempo"]["jsonData"]["tracesToLogsV2"]
    assert logs["datasourceUid"] == "loki"
    assert '|= "$${__trace.traceId}"' in logs["query"]
    assert found["prometheus"]["jsonData"]["exemplarTraceIdDestinations"] == [
        {"name": "trace_id", "datasourceUid": "tempo"}
    ]
    for uid in ("serviceMap", "tracesToMetrics"):
        assert found["tempo"]["jsonData"][uid]["datasourceUid"] == "prometheus"
    assert "exemplar-storage" in " ".join(compose.services()["prometheus"]["command"])


def test_the_database_is_asked_as_who_may_only_read() -> None:
    source = sources()["postgres"]
    assert source["user"] == "iot_dashboard"
    (secret,) = re.findall(r"^\$__file\{/run/secrets/(\w+)\}$", source["secureJsonData"]["password"])
    assert secret in compose.services()["grafana"]["secrets"]
    assert (
        f"ALTER ROLE iot_dashboard PASSWORD :'{secret.removesuffix('_password')}'"
        in (ROOT / "deploy" / "postgres" / "accounts.sql").read_text()
    )


def test_links_lead_to_the_runbook_and_to_each_other() -> None:
    links = [link["url"] for name in dashboards.NAMES for link in dashboards.dashboard(name)["links"]]
    runbook = [url.partition("#") for url in links if url.startswith(RUNBOOK)]
    assert runbook
    assert all(anchor in anchors(DOCS / "operations.md") for _, _, anchor in runbook)
    assert {url for url in links if url.startswith("/d/")} == {"/d/iot-operations", "/d/iot-telemetry"}


# --- PromQL ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", QUERIES)
def test_every_series_exists_with_its_labels(where: str) -> None:
    there = dashboards.known()
    series = dashboards.series_of(QUERIES[where])
    assert series
    assert series - set(there) == set()
    labels = set().union(*(there[one] for one in series)) | {"instance", "job"}
    assert dashboards.labels_of(QUERIES[where]) - labels == set()


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    """As recording rules, which promtool parses."""
    made = [{"record": f"asked:q{number}", "expr": expr} for number, expr in enumerate(QUERIES.values())]
    assert len(made) > 100
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": made}]}))
    done = programs.run("promtool", "check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(made)} rules found" in done.stdout
    wrong = json.loads(json.dumps(made).replace("sum(", "sum((", 1))
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": wrong}]}))
    assert programs.run("promtool", "check", "rules", tmp_path / "rules.yml").returncode == 1


def test_every_metric_has_a_panel() -> None:
    """A counter that nobody can see is one that nobody looks at."""
    shown = set().union(*(dashboards.series_of(expr) for expr in QUERIES.values()))
    names = {re.sub(r"_(bucket|sum|count)$", "", one) for one in shown}
    wanted = {re.sub(r"_(bucket|sum|count)$", "", one) for one in compose.exposed()}
    assert sorted(wanted - names) == []
