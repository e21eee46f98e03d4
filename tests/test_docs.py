"""What the documents say of the code is so: tables, links, commands, steps. `make docs` mends the tables."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from app.cli.main import COMMANDS
from app.core.model.alert_event import AlertEvent
from app.core.model.alert_phase import Phase
from app.core.model.records import Reason
from app.settings import Settings
from tools.documents import DOCS, METRICS, ROOT, filled, metrics_of, stages_of_reasons, steps_of_the_path

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
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
    known = {Path(str(module.__file__)) for modules in METRICS.values() for module in modules}
    assert found == known, "tell METRICS in tools/documents.py of a new module with metrics"


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_code_exist(page: Path) -> None:
    paths = re.findall(r"(?<![\w./-])((?:app|tests|docs|scripts)/[\w./-]*\w)", page.read_text())
    assert [path for path in paths if not (ROOT / path.partition("::")[0]).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ +)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()
    for command in re.findall(r"(?:`|bin/|^ +|&& |& )iot-stream ([a-z]+)", text, re.MULTILINE):
        assert importlib.util.find_spec(COMMANDS[command][0].partition(":")[0]), f"there is no iot-stream {command}"


def test_what_is_not_there_yet_is_named() -> None:
    section = README.partition("## Not there yet")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+)`", section)) & set(_rule_fields()) == set()


def test_every_field_of_a_rule_and_of_an_alert_is_documented() -> None:
    page = (DOCS / "alerts.md").read_text()
    assert documented(page, "## Rules") == set(_rule_fields())
    assert documented(page, "## What is told") == {*AlertEvent.__struct_fields__, "delayed"}
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
    """The fields a rule may have, read from the table of checks."""
    source = SOURCE[ROOT / "app" / "core" / "rules" / "rule_checks.py"]
    tree = ast.parse(source)
    checks = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "_CHECKS"
    )
    assert isinstance(checks, ast.Dict)
    return [key.value for key in checks.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
