"""What the documents say of the code is so: tables, links, commands, steps. `make docs` writes the tables anew."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from app.cli.main import module_of
from app.core.model.alert_event import AlertEvent
from app.core.model.alert_phase import Phase
from app.core.model.records import Reason
from app.core.rules.rule_checks import checks_of_rule
from app.settings import Settings
from tests import DEFAULT
from tests.test_layers import APP, LAYERS, NEVER
from tools.bench.profile import under
from tools.documents import DOCS, METRICS, ROOT, filled, metrics_of, stages_of_reasons, steps_of_the_path

README = (ROOT / "README.md").read_text()
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
TEMPLATE = ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), *DECISIONS, TEMPLATE]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SOURCE = {path: path.read_text() for path in sorted((ROOT / "app").rglob("*.py"))}


def rows(text: str, after: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    lines = text.partition(f"\n{after}\n")[2].splitlines()
    table = [line for line in lines[: _end_of_table(lines)] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def _end_of_table(lines: list[str]) -> int:
    begin = next(n for n, line in enumerate(lines) if line.startswith("|"))
    return next((n for n in range(begin, len(lines)) if not lines[n].startswith("|")), len(lines))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    assert page.read_text() == filled(page.read_text()), f"{page.name} is out of date with the code: run `make docs`"


def test_every_setting_and_metric_is_in_its_page() -> None:
    settings, metrics = (DOCS / "settings.md").read_text(), (DOCS / "metrics.md").read_text()
    assert [name for name in Settings.model_fields if f"| `IOT_{name.upper()}` |" not in settings] == []
    names = [metric._name for program in METRICS for metric in metrics_of(program)]
    assert len(names) > 30
    assert [name for name in names if not re.search(rf"\| `{name}(_total)?` \|", metrics)] == []


def test_no_other_module_has_metrics() -> None:
    found = {
        path for path, text in SOURCE.items() if re.search(r'= (Counter|Gauge|Histogram|Summary|Info)\(\s*"', text)
    }
    known = {Path(str(module.__file__)) for module in METRICS.values()}
    assert found == known, "a program has its metrics in one module, named by METRICS in tools/documents.py"


def test_every_variable_of_the_program_is_documented() -> None:
    variables = set(re.findall(r"environ[^\n]*\"(IOT_[A-Z_]+)\"", "\n".join(SOURCE.values())))
    assert variables >= {"IOT_SETTINGS_FILE", "IOT_LOCAL_DIR", "IOT_CACHE_DIR"}
    text = (DOCS / "settings.md").read_text()
    assert [name for name in sorted(variables) if f"`{name}`" not in text] == []


def test_every_reason_is_documented_with_its_stages() -> None:
    table = rows((DOCS / "deadletters.md").read_text(), "## Reasons")
    documented = {cells[0].strip("`"): set(cells[1].split(", ")) for cells in table}
    assert list(documented) == list(Reason), "docs/deadletters.md: one row for each Reason, in the order of model.py"
    assert documented == stages_of_reasons()
    assert all(len(cells) == 4 and cells[2] and cells[3] for cells in table)


def test_the_steps_of_the_path_are_those_of_the_pipeline() -> None:
    steps = [cells[0] for cells in rows(README, "## The path of one message")]
    assert [step for step in steps if step not in ("in", "out")] == steps_of_the_path()
    assert steps_of_the_path()[:2] == ["1", "2"]


def test_every_promise_names_tests() -> None:
    promises = rows(README, "## Promises")
    assert [cells[0] for cells in promises] == [f"P{number}" for number in range(1, 9)]
    assert [cells[0] for cells in promises if "(tests/" not in cells[2]] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_anchors_are_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())
    assert [(link, name) for link, name in links if name not in anchors(page.parent / link if link else page)] == []


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub calls the headings of a page in a link."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_in_code_exist(page: Path) -> None:
    paths = re.findall(r"(?<![\w./-])((?:app|tests|tools|docs|scripts)/[\w./-]*\w)", page.read_text())
    assert [path for path in paths if not (ROOT / path.partition("::")[0]).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ +)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()
    for command in re.findall(r"(?:`|bin/|^ +|&& |& )iot-stream ([a-z]+)", text, re.MULTILINE):
        there = command == "help" or importlib.util.find_spec(module_of(command))  # help is no module of its own
        assert there, f"there is no iot-stream {command}"


def test_the_profiler_comes_with_make_setup() -> None:
    assert "tools.bench.profile build/profile.svg" in (ROOT / "Makefile").read_text()
    locked = re.search(r"^py-spy==(\S+)", (ROOT / "requirements-dev.lock").read_text(), re.M)
    assert locked
    command = under(Path("build/profile.svg"))
    assert Path(command[0]).name == "py-spy"
    assert command[-1] == "--", "what is profiled comes after it"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_class_names_are_those_of_the_code(page: Path) -> None:
    text = re.sub(r"^ {4}.*$", "", page.read_text(), flags=re.M)
    names = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)(?:\.\w+)?`", text))
    assert sorted(names - _words_of_the_code()) == []


@cache
def _words_of_the_code() -> frozenset[str]:
    """Every word that a source, a test or an alert of Prometheus has."""
    files = [*SOURCE.values(), *(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))]
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    return frozenset(re.findall(r"\w+", " ".join([*files, alerts])))


def test_what_is_not_there_yet_is_named() -> None:
    section = README.partition("## Not there yet")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+)`", section)) & set(_rule_fields()) == set()


def test_every_field_of_a_rule_and_of_an_alert_is_documented() -> None:
    page = (DOCS / "alerts.md").read_text()
    assert documented(page, "## Rules") == set(_rule_fields())
    assert documented(page, "## What an alert event contains") == {*AlertEvent.__struct_fields__, "delayed"}
    states = re.findall(r"^\| `([A-Z]+)` \| ", page.partition("## The life of an alert")[2].partition("<!--")[0], re.M)
    assert states == list(Phase)
    active, history = page.partition("\n## Tables")[2].split("`alert_history` has")
    assert documented(active) == set(columns_of("active_alerts"))
    assert documented(history) == set(columns_of("alert_history"))


def documented(page: str, section: str = "") -> set[str]:
    """The names in the first column of the first table of a section."""
    text = page.partition(section)[2] if section else page
    (first, *_) = re.findall(r"^\| (?:field|column) \| meaning \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.M)
    return {name for line in first.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}


def columns_of(table: str) -> list[str]:
    """The columns of a table in init.sql."""
    body = (ROOT / "init.sql").read_text().partition(f"CREATE TABLE IF NOT EXISTS {table} (\n")[2].partition("\n);")[0]
    return re.findall(r"^  ([a-z_]+) +[a-z]", body, re.M)


def _rule_fields() -> list[str]:
    """The fields that a rule may have: all that have a check."""
    return list(checks_of_rule(DEFAULT))


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    links = {(DOCS / link).resolve() for link in re.findall(r"\]\(([^)#]+)", index)}
    assert [page for page in DOCS.rglob("*.md") if page.name != "README.md" and page.resolve() not in links] == []


def test_decisions_are_numbered_and_have_the_same_parts() -> None:
    index = re.findall(r"^(\d+)\. \[(.+)\]\(decisions/(.+)\)$", (DOCS / "README.md").read_text(), re.M)
    assert len(DECISIONS) >= 10
    for number, (page, entry) in enumerate(zip(DECISIONS, index, strict=True), 1):
        title, *parts = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
        assert page.name.startswith(f"{number:04}-")
        assert (title, entry) == (f"{number}. {entry[1]}", (str(number), entry[1], page.name))
        assert parts[:4] == ["Context", "Decision", "Rejected", "Consequences"], page.name
        assert parts[4:] in (["Measured"], ["Source"]), page.name


ARCHITECTURE = (DOCS / "architecture.md").read_text()


def test_the_picture_has_every_process_topic_and_table() -> None:
    picture = ARCHITECTURE.partition("```mermaid")[2].partition("```")[0]
    fields = Settings.model_fields
    topics = {fields[name].default for name in ("kafka_topic", "kafka_dlq_topic", "kafka_alerts_topic")}
    tables = set(re.findall(r"CREATE (?:TABLE|MATERIALIZED VIEW) IF NOT EXISTS (\w+)", (ROOT / "init.sql").read_text()))
    processes = {f"iot-stream {name}" for name in ("bridge", "worker", "notifier")}
    assert len(tables) > 8
    drawn = {*topics, f"iot-{fields['app'].default}-state-changelog", *processes} | tables - NOT_DRAWN
    assert [name for name in sorted(drawn) if name not in picture] == []
    tabled = re.findall(r"`([\w-]+)`", " ".join(line.split(" | ")[0] for line in ARCHITECTURE.splitlines()))
    assert sorted((topics | tables) - set(tabled)) == []


NOT_DRAWN = {"iot_migrations", "telemetry_1m", "telemetry_1h"}  # no process of the picture is on either side of them


def test_the_folders_are_those_of_the_layers() -> None:
    there = {path.stem for path in APP.iterdir()}
    lines = [[name for name in line.split() if name in there] for line in LAYERS.split("\n")]
    table = rows(ARCHITECTURE, "## Folders of app/, and what may import what")
    assert [re.findall(r"`(\w+)`", cells[1]) for cells in table] == [line for line in lines if line]
    assert [cells[0] for cells in table] == [str(number) for number in range(1, len(table) + 1)]
    nevers = rows(ARCHITECTURE, "Never, although the lines would allow it:")
    assert {cells[0].strip("`"): tuple(re.findall(r"`(\w+)`", cells[1])) for cells in nevers} == NEVER


@pytest.mark.parametrize(
    ("heading", "most"), [("### A payload becomes a row", 10), ("### A reading becomes an alert", 12)]
)
def test_the_files_of_a_way_are_counted_and_few(heading: str, most: int) -> None:
    """That a payload passes these files alone is asked of a worker in tests/integration/test_passed_files."""
    text = ARCHITECTURE.partition(f"\n{heading}\n")[2]
    table = rows(ARCHITECTURE, heading)
    (said,) = re.findall(r"\*\*(\d+) files\*\*", text.partition("\n|")[0])
    files = [re.findall(r"\]\(\.\./(app/[\w/]+\.py)\)", cells[1]) for cells in table]
    assert all(len(found) == 1 for found in files)
    assert int(said) == len(table) == len({found[0] for found in files})
    assert len(table) <= most


def test_the_figures_of_batching_are_those_of_the_code() -> None:
    said = re.findall(r"`([A-Z_]+ = [^`]+)`", (DOCS / "batching.md").read_text())
    constants = _constants()
    assert len(said) > 8
    assert [text for text in said if ast.unparse(ast.parse(text)) not in constants] == []
    page = (DOCS / "batching.md").read_text()
    defaults = re.findall(r"`IOT_([A-Z_]+)`\s\(([\d,]+)(?: ([MG])iB| s)?\)", page)
    assert len(defaults) > 4
    for name, number, unit in defaults:
        value = int(number.replace(",", "")) << {"": 0, "M": 20, "G": 30}[unit]
        assert value == Settings.model_fields[name.lower()].default, name


def _constants() -> set[str]:
    """NAME = value, of every module of app/ that gives a name a value of its own."""
    found = set()
    for source in SOURCE.values():
        for node in ast.parse(source).body:
            match node:
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    pairs = zip(names, values, strict=True)
                    found |= {f"{ast.unparse(name)} = {ast.unparse(value)}" for name, value in pairs}
                case ast.Assign():
                    found.add(ast.unparse(node))
    return found


def test_hooks_and_the_workflow_run_what_make_runs() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck: ")[2].partition("\n\n")[0]
    wanted = [line.strip().removeprefix("@").replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()[1:]]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == [line.replace("$(VENV)", ".venv") for line in wanted]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    steps = [step for job in jobs for step in job["steps"]]
    assert {"make check", "make test"} <= {step.get("run") for step in steps}
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)
    assert all(job["timeout-minutes"] for job in jobs)


def test_the_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    """Rows a second, CPU and memory of each system, as docs/benchmarks.md has them."""
    page = (DOCS / "benchmarks.md").read_text()
    peers = {cells[0]: cells for cells in rows(page, "## Peers")}
    ours, *others = rows(README, "## Why this one")
    (worker,) = [cells for cells in rows(page, "## Kafka to table") if cells[0] == "worker"]
    assert [cell.split()[0] for cell in worker[1:4]] == ours[1:4]
    assert len(others) >= 5
    for cells in others:
        peer = peers[cells[0]]
        assert (peer[2], peer[3], peer[5], peer[6]) == tuple(cells[1:5])
