"""The version is written in two places, and is the same."""

import tomllib
from pathlib import Path

from app.runtime.version import VERSION


def test_it_is_the_package_s() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
