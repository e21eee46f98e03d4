"""docker-compose.yml as Compose reads it with no variables set, and what the other deployed files are made of."""

import re
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from prometheus_client.metrics import MetricWrapperBase

from tools.documents import METRICS, ROOT, metrics_of

FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}")


def variables() -> dict[str, str]:
    """Every variable the file takes, with its default."""
    return dict(_VARIABLE.findall(FILE.read_text()))


class _Loader(yaml.SafeLoader):
    """YAML with Compose's own tags, which say how two files become one: `read` takes each file for itself."""


for _tag in ("!override", "!reset"):
    _Loader.add_constructor(_tag, lambda loader, node: loader.construct_sequence(cast("yaml.SequenceNode", node)))


def read(file: Path) -> dict[str, Any]:
    """The content of a file, its variables as they stand."""
    loaded: dict[str, Any] = yaml.load(file.read_text(), _Loader)
    return loaded


@cache
def config() -> dict[str, Any]:
    """The file with its defaults put in."""
    text = _VARIABLE.sub(lambda found: found[2] or "", FILE.read_text()).replace("$$", "$")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def services() -> dict[str, dict[str, Any]]:
    """Name -> service."""
    found: dict[str, dict[str, Any]] = config()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """The services of our own image."""
    return {name: service for name, service in services().items() if "build" in service}


def seconds(text: str) -> float:
    """80s, 2m or 1h."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


@cache
def exposed() -> dict[str, set[str]]:
    """Every series a program of ours shows on /metrics, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in (metric for program in METRICS for metric in metrics_of(program)):
        for suffix in _suffixes(metric):
            found[metric._name + suffix] = set(metric._labelnames) | ({"le"} if suffix == "_bucket" else set())
    return found


def _suffixes(metric: MetricWrapperBase) -> tuple[str, ...]:
    return {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(str(metric._type), ("",))
