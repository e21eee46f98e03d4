"""Words that name nothing are no identifiers of app/: `here`, `thing`, `told`, `others` (CONTRIBUTING.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

APP = Path(__file__).parent.parent / "app"
EMPTY_WORDS = {"here", "thing", "told", "others"}


def identifiers(source: str) -> Iterator[str]:
    """Names of variables, parameters, attributes, functions and classes; keywords of a call are the callee's."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.arg(arg=name) | ast.Name(id=name) | ast.Attribute(attr=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name


def test_no_identifier_is_an_empty_word() -> None:
    found = {
        str(path.relative_to(APP)): names
        for path in sorted(APP.rglob("*.py"))
        if (names := {name for name in identifiers(path.read_text()) if name.strip("_") in EMPTY_WORDS})
    }
    assert found == {}


def test_each_kind_of_identifier_is_seen() -> None:
    source = "class Thing:\n    def here(self, told): self.others = thing\n"
    assert set(identifiers(source)) == {"Thing", "here", "self", "told", "others", "thing"}
