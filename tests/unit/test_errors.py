"""Every exception class of app/ has its place in the tree that app/errors.py draws."""

import ast
import re
from pathlib import Path

import app.errors

APP = Path(app.errors.__file__).parent
ROOT = "IotStreamError"


def drawn(text: str) -> dict[str, str]:
    """Exception -> the one that it derives from, as the tree shows them."""
    parents, path = {}, [ROOT]
    for branch, name in re.findall(r"^([│ ]*[├└]── )(\w+)", text, re.MULTILINE):
        path[len(branch) // 4 :] = [name]
        parents[name] = path[-2]
    return parents


def defined() -> dict[str, str]:
    """Exception -> its first base, of every class of the source whose bases are exceptions by their name."""
    found = {}
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if any(base.endswith(("Error", "Exception", "Interrupt", "Exit")) for base in bases):
                assert isinstance(node, ast.ClassDef)
                found[node.name] = bases[0]
    return found


def test_the_tree_shows_every_exception_in_its_place() -> None:
    assert defined() == {ROOT: "Exception"} | drawn(app.errors.__doc__ or "")


def test_the_drawing_is_read_with_its_levels() -> None:
    tree = f"{ROOT}\n├── AError  a\n│   ├── BError  b\n│   │   └── CError  c\n│   └── DError  d\n└── EError  e\n"
    assert drawn(tree) == {"AError": ROOT, "BError": "AError", "CError": "BError", "DError": "AError", "EError": ROOT}
