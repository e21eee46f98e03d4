"""JSON Patch (RFC 6902): in, a patch and a JSON document; out, the patched document, or why not.

Numbers that Python would not keep exactly stay as they are written. A document is a tree of dict, list, str, bool,
None, int and Raw (a number as it is written).
"""

import json
from decimal import Decimal
from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct

from app.errors import PermanentError

OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")
_INT_DIGITS = 18  # as many fit msgspec's integers


class PatchError(PermanentError):
    """The patch cannot be applied to this document; str() says which operation, and why."""


class Operation(Struct, frozen=True):
    """One operation, its pointers taken apart."""

    op: str
    path: tuple[str, ...]
    source: tuple[str, ...] = ()  # `from`
    value: Any = None


def parse(text: bytes) -> Any:
    """The tree of a JSON text. Raises ValueError for what is no JSON, and RecursionError for what is too deep."""
    return json.loads(text.decode(), parse_float=_number, parse_int=_integer, parse_constant=_constant)


def dump(tree: Any) -> bytes:
    """The JSON text of a tree, without blanks. Raises ValueError where a text has half a surrogate pair."""
    return msgspec.json.encode(tree)


def patch_of(text: bytes) -> tuple[Operation, ...]:
    """The operations of a patch. Raises PatchError that names the first one that is wrong."""
    try:
        operations = parse(text)
    except (ValueError, RecursionError) as error:
        raise PatchError(f"the patch is not JSON: {error}") from None
    if not isinstance(operations, list):
        raise PatchError("a JSON Patch is an array of operations")
    return tuple(_operation(at, one) for at, one in enumerate(operations))


def apply(patch: tuple[Operation, ...], tree: Any) -> Any:
    """The patched document. `tree` is changed where that saves a copy, and not to be used afterwards. Raises PatchError
    when an operation does not fit or a test fails.
    """
    for at, one in enumerate(patch):
        try:
            tree = _applied(one, tree)
        except PatchError as error:
            raise PatchError(f"operation {at} ({one.op} {_pointer(one.path)}): {error}") from None
    return tree


def _applied(one: Operation, tree: Any) -> Any:
    if one.op == "test":
        if not _same(_found(tree, one.path), one.value):
            raise PatchError("the value is another")
        return tree
    if one.op == "remove":
        return _removed(tree, one.path)[0]
    if one.op == "replace":
        if not one.path:
            return _copy(one.value)
        _found(tree, one.path)
        parent = _found(tree, one.path[:-1])
        parent[_key(parent, one.path[-1], len(parent) - 1)] = _copy(one.value)
        return tree
    if one.op == "add":
        return _added(tree, one.path, _copy(one.value))
    if one.op == "copy":
        return _added(tree, one.path, _copy(_found(tree, one.source)))
    if one.source == one.path:
        _found(tree, one.source)
        return tree
    if one.path[: len(one.source)] == one.source:
        raise PatchError("a value cannot be moved into itself")
    tree, moved = _removed(tree, one.source)
    return _added(tree, one.path, moved)


def _found(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(tree, dict):
            if name not in tree:
                raise PatchError(f"there is no {name!r}")
            tree = tree[name]
        else:
            tree = tree[_key(tree, name, len(tree) - 1 if isinstance(tree, list) else 0)]
    return tree


def _added(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    parent = _found(tree, path[:-1])
    if isinstance(parent, list):
        at = len(parent) if path[-1] == "-" else _key(parent, path[-1], len(parent))
        parent.insert(at, value)
    else:
        parent[_key(parent, path[-1], 0)] = value
    return tree


def _removed(tree: Any, path: tuple[str, ...]) -> tuple[Any, Any]:
    """The tree without a value, and the value."""
    value = _found(tree, path)
    if not path:
        return None, value
    parent = _found(tree, path[:-1])
    del parent[_key(parent, path[-1], len(parent) - 1)]
    return tree, value


def _key(parent: Any, name: str, most: int) -> Any:
    """What a name stands for in its parent: a name, or an index of at most `most`."""
    if isinstance(parent, dict):
        return name
    if not isinstance(parent, list):
        raise PatchError(f"{name!r} is looked for in what is neither an object nor an array")
    if not (name.isascii() and name.isdigit() and len(name) <= _INT_DIGITS and (name == "0" or name[0] != "0")):
        raise PatchError(f"{name!r} is no index of an array")
    if int(name) > most:
        raise PatchError(f"the array has no index {name}")
    return int(name)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal: true is not 1, and 1.0 is 1."""
    if _is_number(one) or _is_number(other):
        return _is_number(one) and _is_number(other) and _value(one) == _value(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _operation(at: int, given: Any) -> Operation:
    def wrong(what: str) -> NoReturn:
        raise PatchError(f"operation {at} of the patch: {what}")

    if not isinstance(given, dict) or given.get("op") not in OPERATIONS:
        wrong(f'it needs an "op", one of {", ".join(OPERATIONS)}')
    op = given["op"]
    names = ["path", *(["from"] if op in ("move", "copy") else [])]
    pointers = {}
    for name in names:
        pointer = given.get(name)
        if not isinstance(pointer, str) or (pointer and pointer[0] != "/") or _is_broken(pointer):
            wrong(f'{op} needs "{name}", a JSON Pointer such as /extra/0')
        pointers[name] = tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    if op in ("add", "replace", "test") and "value" not in given:
        wrong(f'{op} needs a "value"')
    return Operation(op, pointers["path"], pointers.get("from", ()), given.get("value"))


def _is_broken(pointer: str) -> bool:
    return any(part[:1] not in ("0", "1") for part in pointer.split("~")[1:])


def _pointer(path: tuple[str, ...]) -> str:
    return "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in path) or '""'


def _is_number(value: Any) -> bool:
    return isinstance(value, Raw) or (isinstance(value, int) and not isinstance(value, bool))


def _value(number: Any) -> Decimal:
    return Decimal(bytes(number).decode() if isinstance(number, Raw) else number)


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _copy(value) for name, value in tree.items()}
    return [_copy(value) for value in tree] if isinstance(tree, list) else tree


def _number(text: str) -> Raw:
    return Raw(text.encode())


def _integer(text: str) -> int | Raw:
    return int(text) if len(text) <= _INT_DIGITS and text != "-0" else _number(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
