"""Which files of app/ use private parts of a library: aiokafka's in three files alone, asked of the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"

# aiokafka gives no other way to these parts. Each file says which parts they are, and which tests watch them.
AIOKAFKA = {
    "kafka/close_clients.py",  # the end of clients and connections
    "kafka/group_coordinator.py",  # membership in a group
    "stream/fetcher.py",  # records that are fetched, and positions
}
# Private parts of anything else, each meant: file -> names.
ALLOWED = {
    "stream/consumer_thread.py": {"_queue"},  # of mode's MethodQueue
    "stream/faust_process.py": {"_init_worker_options"},  # of Faust's command
    "stream/rebalance/recovery.py": {"_fetcher"},  # of Faust's app
}
PUBLIC = {"_asdict", "_replace", "_fields", "_exit"}  # of a NamedTuple, and os._exit: public, in spite of their names
OWN = {"self", "cls"}
LOOKUPS = {"getattr", "setattr", "hasattr", "delattr"}


def private_parts(source: str) -> Iterator[str]:
    """Names with one leading underscore that a source asks of something else than `self`, `cls` or `super()`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and _private(node.attr) and not _own(node.value):
            yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOOKUPS:
            names = [one.value for one in node.args[1:2] if isinstance(one, ast.Constant)]
            if not _own(node.args[0]):
                yield from (name for name in names if isinstance(name, str) and _private(name))


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def _own(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in OWN


def test_private_parts_of_aiokafka_are_used_in_three_files() -> None:
    assert len(AIOKAFKA) <= 3
    found = {str(path.relative_to(APP)): set(private_parts(path.read_text())) for path in sorted(APP.rglob("*.py"))}
    used = {name: parts for name, parts in found.items() if parts}
    assert {name: parts for name, parts in used.items() if name not in AIOKAFKA} == ALLOWED
    assert used.keys() >= AIOKAFKA, "a file that needs none any more leaves the list"


@pytest.mark.parametrize(
    "source",
    [
        "consumer._coordinator.check_errors()",
        "self._consumer._coordinator",
        "consumer._fetch_max_wait_ms = 200",
        "getattr(consumer, '_fetcher', None)",
        "(await client())._closed",
    ],
)
def test_a_private_part_is_found(source: str) -> None:
    assert len(list(private_parts(source))) == 1


@pytest.mark.parametrize(
    "source", ["self._consumer.stop()", "super()._commit(x)", "cls._x", "a.__dict__", "_x()", "point._asdict()"]
)
def test_what_is_our_own_is_not(source: str) -> None:
    assert list(private_parts(source)) == []
