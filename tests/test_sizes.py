"""The sizes of folders, files and functions of app/, within which a reader finds the way, and how often mypy is
overruled; asked of the source.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"
FOLDER_FILES = 18
FILE_LINES = 260
FUNCTION_LINES = 40
TYPE_IGNORES = 15
_IGNORE = re.compile(r"# type: ignore\b(\[[\w\-, ]+\])?(?P<reason>  # .)?")


def too_large(sources: Mapping[str, str]) -> Iterator[str]:
    """Path -> source in; out, each folder, file and function that is beyond its limit, and by how much."""
    for folder, count in sorted(Counter(path.rpartition("/")[0] for path in sources).items()):
        if count > FOLDER_FILES:
            yield f"{folder}: {count} files, {FOLDER_FILES} at most"
    for path, source in sorted(sources.items()):
        if (lines := len(source.splitlines())) > FILE_LINES:
            yield f"{path}: {lines} lines, {FILE_LINES} at most"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    yield f"{path}: {node.name} has {length} lines, {FUNCTION_LINES} at most"


def repeated(sources: Mapping[str, str]) -> Iterator[str]:
    """Each class name that stands in more than one file, and where."""
    places: dict[str, list[str]] = {}
    for path, source in sorted(sources.items()):
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path)
    yield from (f"{name}: {', '.join(paths)}" for name, paths in places.items() if len(paths) > 1)


def type_ignores(sources: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """Each place where mypy is overruled, and whether its reason stands behind the ignore or on the line above."""
    for path, source in sorted(sources.items()):
        before = ""
        for number, line in enumerate(source.splitlines(), 1):
            if found := _IGNORE.search(line):
                yield f"{path}:{number}", bool(found["reason"]) or before.strip().startswith("# ")
            before = line


@pytest.fixture(scope="module")
def sources() -> Mapping[str, str]:
    paths = [path for path in APP.rglob("*.py") if path.parent.name != "protobuf"]  # generated
    return {str(path.relative_to(APP.parent)): path.read_text() for path in paths}


def test_nothing_is_too_large(sources: Mapping[str, str]) -> None:
    assert list(too_large(sources)) == []


def test_no_class_name_stands_twice(sources: Mapping[str, str]) -> None:
    assert list(repeated(sources)) == []


def test_mypy_is_overruled_seldom_and_for_a_reason(sources: Mapping[str, str]) -> None:
    found = list(type_ignores(sources))
    assert [place for place, reason in found if not reason] == []
    assert len(found) <= TYPE_IGNORES, found


def test_a_type_ignore_without_a_reason_is_found() -> None:
    lines = [
        "a = 1",
        "b = 2  # type: ignore[misc]",
        "c = 3  # type: ignore[misc]  # why",
        "# why",
        "d = 4  # type: ignore",
    ]
    assert list(type_ignores({"app/a.py": "\n".join(lines)})) == [
        ("app/a.py:2", False),
        ("app/a.py:3", True),
        ("app/a.py:5", True),
    ]


def test_what_is_too_large_is_found() -> None:
    long = "def f():\n" + "    pass\n" * FUNCTION_LINES
    crowd = {f"app/x/m{number}.py": "" for number in range(FOLDER_FILES)}
    found = list(
        too_large({**crowd, "app/x/a.py": "\n" * (FILE_LINES + 1), "app/y/b.py": f"class C:\n    x = 1\n{long}"})
    )
    assert found == [
        "app/x: 19 files, 18 at most",
        "app/x/a.py: 261 lines, 260 at most",
        "app/y/b.py: f has 41 lines, 40 at most",
    ]
    assert list(repeated({"app/a.py": "class C: ...", "app/b.py": "class C: ..."})) == ["C: app/a.py, app/b.py"]
