"""Looking into the source of Faust, mode and aiokafka: what stands in it, and in which order."""

import inspect
import re
from typing import Any


def source(subject: Any) -> str:
    """The code of `subject` without comments, docstring and layout."""
    text = inspect.getsource(subject)
    text = re.sub(r'"""(?:.|\n)*?"""', "", text, count=1)
    return " ".join(re.sub(r"#.*", "", text).split())


def in_order(subject: Any, *parts: str) -> None:
    """Each of `parts` occurs in the code of `subject`, one after another."""
    text, at = source(subject), 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{subject.__qualname__}: {part!r} is gone, or comes earlier than it did:\n{text}"
        at = found + len(part)
