"""docs/operations.md has a cure for each alert; docs/scale.md calculates with the figures that were measured."""

import math
import re

import yaml

from tools.documents import DOCS, ROOT


def test_each_alert_has_its_cure() -> None:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    section = (DOCS / "operations.md").read_text().partition("\n## On each alert\n")[2].partition("\n## ")[0]
    titles, texts = zip(*re.findall(r"^### (\w+)\n\n(.*?)(?=\n### |\Z)", section, re.M | re.S), strict=True)
    assert list(titles) == alerts
    for title, text in zip(titles, texts, strict=True):
        assert re.findall(r"^\*\*(\w+):\*\*\s+\S", text, re.M) == ["Means", "Look", "Do"], title


def number(pattern: str, text: str) -> float:
    """The one number a pattern finds."""
    (found,) = re.findall(pattern, text)
    return float(found.replace(",", ""))


def test_the_arithmetic_of_scale() -> None:
    measured, scale = (DOCS / "benchmarks.md").read_text(), (DOCS / "scale.md").read_text()
    worker = number(r"\| worker \| [\d,]+ \([^)]+\) \| ([\d.]+) \([^)]+\) \|", measured)
    simple = number(r"with two rules and device state, an alert in 50 messages \| ([\d,]+) \|", measured)
    heavy = number(r"with five rules, 10,000 devices \| ([\d,]+) \|", measured)
    bridge = 1e6 / number(r"bridge \| ([\d,]+) messages a CPU second", scale)
    database = number(r"\| PostgreSQL, .* \| ([\d.]+) CPU seconds", scale)
    assert f"| {worker} us |" in scale
    assert f"| {bridge:.1f} us |" in scale
    assert f"{1e6 / heavy - 1e6 / simple:.1f} us more | {worker + 1e6 / heavy - 1e6 / simple:.1f} us" in scale
    rows = re.findall(
        r"^\| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) to ([\d.]+) ([GT])B \|$", scale, re.M
    )
    assert [row[0] for row in rows] == ["1,000", "10,000", "100,000", "1,000,000"]
    for row in rows:
        rate = float(row[0].replace(",", ""))
        busy = [max(1, math.ceil(rate * cost / 1e6 / 0.6)) for cost in (bridge, worker + 1e6 / heavy - 1e6 / simple)]
        assert [int(row[1]), int(row[2])] == busy
        assert int(row[3]) >= 2 * busy[1]
        assert int(row[4]) == max(1, math.ceil(rate * database / 1e6 / 0.6))
        unit = {"G": 1e9, "T": 1e12}[row[7]]
        for size, reported in ((152, row[5]), (264, row[6])):
            assert abs(rate * size * 86400 / unit - float(reported)) <= (0.5 if float(reported) >= 10 else 0.06)
