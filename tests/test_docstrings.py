"""Whatever is public in app/ and tools/ has a docstring, and a function that raises an error names it there.

Free of it: code made from proto/, and methods of `...` alone in a class that is no Protocol, which do nothing where
nobody listens: what the call means stands in the Protocol. The docstring of a command of Typer is its --help, which
speaks to whoever types it, and names no class.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef
COMMANDS = "app/cli/"


def undocumented(sources: Mapping[str, str]) -> Iterator[str]:
    """Path -> source in; out, each module, public class, function and method without a docstring."""
    for path, source in sorted(sources.items()):
        tree = ast.parse(source)
        if tree.body and not ast.get_docstring(tree):
            yield f"{path}: the module"
        yield from (f"{path}:{node.lineno}: {name}" for name, node in public(tree) if not ast.get_docstring(node))


def unnamed_errors(sources: Mapping[str, str]) -> Iterator[str]:
    """Each error that a public function raises by its class, out of any try, and that its docstring does not name."""
    for path, source in sorted(sources.items()):
        for name, node in public(ast.parse(source)):
            said = ast.get_docstring(node) or ""
            if isinstance(node, Function) and not path.startswith(COMMANDS):
                missing = sorted({error for error in raised(node.body) if not re.search(rf"\b{error}\b", said)})
                yield from (f"{path}:{node.lineno}: {name} raises {error}" for error in missing)


def public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """(dotted name, node) of what does not begin with an underscore, but for methods that do nothing."""
    implements = isinstance(tree, ast.ClassDef) and "Protocol" not in [ast.unparse(base) for base in tree.bases]
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            if not (implements and [ast.unparse(one) for one in node.body] == ["..."]):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


def raised(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Classes of errors that are raised by name, but for bugs, and for those that an `except` around may take."""
    for node in nodes:
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            continue  # raised when that is called
        if isinstance(node, ast.Raise):
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            found = ast.unparse(called).rpartition(".")[2] if called else ""
            if re.fullmatch(r"[A-Z]\w*Error", found) and found != "AssertionError":
                yield found
        elif isinstance(node, ast.Try) and node.handlers:
            yield from raised((*node.handlers, *node.orelse, *node.finalbody))
        else:
            yield from raised(ast.iter_child_nodes(node))


@pytest.fixture(scope="module")
def sources() -> Mapping[str, str]:
    paths = [path for folder in ("app", "tools") for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    return {path: text for path, text in found.items() if not path.startswith("app/protobuf/")}  # generated


def test_everything_public_has_a_docstring(sources: Mapping[str, str]) -> None:
    assert len(sources) > 300
    assert list(undocumented(sources)) == []


def test_docstrings_name_the_errors_that_are_raised(sources: Mapping[str, str]) -> None:
    assert list(unnamed_errors(sources)) == []


BAD = '''
class Events(Protocol):
    """Events."""

    def heard(self) -> None: ...

class NoEvents:
    """Nobody listens."""

    def heard(self) -> None: ...
    def told(self) -> None:
        self.heard()

class _Private:
    def free(self) -> None: ...

async def ask() -> None:
    """Raises OSError when nobody answers."""
    try:
        raise ValueError
    except ValueError:
        raise OSError from None
    finally:
        raise errors.WireError("cut")

def quiet() -> None:
    """Never mind."""
    def inner() -> None:
        raise KeyError
    assert_never()
    raise AssertionError
'''


def test_what_is_missing_is_found() -> None:
    assert list(undocumented({"app/a.py": BAD, "app/b.py": ""})) == [
        "app/a.py: the module",
        "app/a.py:5: Events.heard",
        "app/a.py:11: NoEvents.told",
    ]
    assert list(unnamed_errors({"app/a.py": BAD, "app/cli/a.py": BAD})) == ["app/a.py:17: ask raises WireError"]
