"""Device ids and globs -> which of them take in a name; in time that grows with their lengths, whatever they are.

A name is taken in by a text that equals it, whatever characters it has, and else by a glob: `*` any text, `?` one
character, `[ab0-9]` one of these, `[!ab]` one that is none of these; a `[` without its `]` stands for itself. A glob is
cut at its stars, and what lies between two is looked for once, from left to right: nothing is ever tried again, as
fnmatch and regular expressions do.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

WILD = frozenset("*?[")

Ranges = tuple[tuple[str, str], ...]


class OneOf(Struct, frozen=True, gc=False):
    """The item `[...]` of a glob: some characters, or with `!` all but these."""

    ranges: Ranges
    negated: bool

    def takes_in(self, char: str) -> bool:
        """Whether the item stands for this character."""
        return any(low <= char <= high for low, high in self.ranges) is not self.negated


Item = str | OneOf | None  # a character, one of several, or any
Piece = str | tuple[Item, ...]  # a str is looked for literally


class Glob:
    """One glob, cut at its stars."""

    __slots__ = ("_first", "_last", "_least", "_middle", "_searches", "_whole", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = _pieces(text)
        self._whole = len(pieces) == 1
        self._first, self._last = pieces[0], pieces[-1]
        self._middle = tuple(piece for piece in pieces[1:-1] if piece)
        self._least = sum(map(len, pieces)) if not self._whole else len(pieces[0])
        self._searches: list[re.Pattern[str] | None] | None = None  # made when a name is first matched

    def matches(self, name: str) -> bool:
        """Whether the glob takes in this name; the answer takes microseconds."""
        size = len(name)
        if size < self._least or (self._whole and size != self._least) or not _at(self._first, name, 0):
            return False
        if self._whole:
            return True
        end = size - len(self._last)
        if not _at(self._last, name, end):
            return False
        at = len(self._first)
        for index, piece in enumerate(self._middle):
            at = name.find(piece, at, end) if isinstance(piece, str) else self._search(index, name, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    def _search(self, index: int, name: str, at: int, end: int) -> int:
        if self._searches is None:
            self._searches = [None if isinstance(piece, str) else _regex(piece) for piece in self._middle]
        search = self._searches[index]
        assert search is not None
        found = search.search(name, at, end)
        return found.start() if found else -1

    @property
    def searched(self) -> int:
        """How many characters have to be tried at each place of a name."""
        return sum(len(piece) for piece in self._middle if not isinstance(piece, str))


class Globs:
    """Several ids and globs, looked at together."""

    __slots__ = ("_globs", "_names")

    def __init__(self, texts: Iterable[str]) -> None:
        self._names = frozenset(texts)
        self._globs = tuple(Glob(text) for text in self._names if not WILD.isdisjoint(text) and text != "*")

    def takes_in(self, name: str) -> bool:
        """Whether one of the ids or globs takes in this name."""
        if name in self._names or "*" in self._names:
            return True
        return any(glob.matches(name) for glob in self._globs)

    def hits(self, name: str) -> set[str]:
        """All texts that take in this name, the name itself and `*` among them even when neither was given."""
        return {name, "*", *(glob.text for glob in self._globs if glob.matches(name))}


def _at(piece: Piece, name: str, at: int) -> bool:
    """Whether the piece stands at place `at` of the name, which is long enough."""
    if isinstance(piece, str):
        return name.startswith(piece, at)
    for item in piece:
        if isinstance(item, OneOf):
            if not item.takes_in(name[at]):
                return False
        elif item is not None and item != name[at]:
            return False
        at += 1
    return True


def _regex(piece: tuple[Item, ...]) -> re.Pattern[str]:
    """The pattern of a piece, which has a fixed length: there is nothing to try again within."""
    parts = []
    for item in piece:
        if isinstance(item, OneOf):
            inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in item.ranges)
            parts.append(f"[{'^' * item.negated}{inside}]" if inside else "." if item.negated else "(?!)")
        else:
            parts.append("." if item is None else re.escape(item))
    return re.compile("".join(parts), re.DOTALL)


def _pieces(text: str) -> Sequence[Piece]:
    if "?" not in text and "[" not in text:
        return text.split("*")
    pieces: list[list[Item]] = [[]]
    for item in _items(text):
        if item == "*":
            pieces.append([])
        else:
            pieces[-1].append(item)
    return [
        "".join(map(str, piece)) if all(isinstance(item, str) for item in piece) else tuple(piece) for piece in pieces
    ]


def _items(text: str) -> Iterator[Item]:
    at, size = 0, len(text)
    while at < size:
        char = text[at]
        at += 1
        end = _class_end(text, at) if char == "[" else -1
        if end >= 0:
            yield _one_of(text[at:end])
            at = end + 1
        else:
            yield None if char == "?" else char


def _class_end(text: str, at: int) -> int:
    """Where the class that begins at `at` ends, -1 if it does not end; a `]` that comes first belongs to the class."""
    first = at + text.startswith("!", at)
    return text.find("]", first + 1)


def _one_of(body: str) -> OneOf:
    negated = body.startswith("!")
    at, ranges = int(negated), list[tuple[str, str]]()
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            low, high = body[at], body[at + 2]
            at += 3
        else:
            low = high = body[at]
            at += 1
        if low <= high:
            ranges.append((low, high))
    return OneOf(tuple(ranges), negated)
