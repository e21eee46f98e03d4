"""Which files of app/ use private parts of a library: aiokafka's and aioquic's in three each; of the source."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"

# aiokafka gives no other way to these parts. Each file says which parts they are, and which tests watch them.
AIOKAFKA = {
    "kafka/close_clients.py",  # the end of clients and connections
    "kafka/group_coordinator.py",  # membership in a group
    "kafka/fetch/fetcher.py",  # records that are fetched, and positions
}
# aioquic has no client certificates for servers, and no windows that stand still. Its classes are extended, so that
# their private parts are asked of `self` as well: tests/contract/gateways/quic/test_aioquic_internals.py watches them.
AIOQUIC = {
    "client/quic/connection.py",  # whether the gateway has forgotten us
    "gateways/quic/connection.py",  # windows, and what a handshake may cost
    "gateways/quic/mutual.py",  # client certificates
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
    used = {name: parts for name, parts in found.items() if parts and not name.startswith("protobuf/")}  # generated
    assert {name: parts for name, parts in used.items() if name not in AIOKAFKA | AIOQUIC} == ALLOWED
    assert used.keys() >= AIOKAFKA, "a file that needs none any more leaves the list"


def inherited_parts(source: str) -> Iterator[str]:
    """Private names that a class which extends one of aioquic's asks of itself, or defines anew, and that are its."""
    tree = ast.parse(source)
    origins = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "aioquic"
        for alias in node.names
    }
    for made in ast.walk(tree):
        if isinstance(made, ast.ClassDef):
            theirs = frozenset[str]().union(*(_parts_of(base, origins) for base in made.bases))
            for node in ast.walk(made):
                name = node.attr if isinstance(node, ast.Attribute) and _own(node.value) else None
                name = node.name if isinstance(node, ast.FunctionDef) else name
                if name in theirs:
                    yield name


def _parts_of(base: ast.expr, origins: dict[str, tuple[str, str]]) -> frozenset[str]:
    """The private names of a base class that is aioquic's: imported itself, or by its module."""
    if isinstance(base, ast.Name) and base.id in origins:
        module, name = origins[base.id]
        return _private_names(module, name)
    if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id in origins:
        module, name = origins[base.value.id]
        return _private_names(f"{module}.{name}", base.attr)
    return frozenset()


@cache
def _private_names(module: str, name: str) -> frozenset[str]:
    found = getattr(importlib.import_module(module), name)
    if not inspect.isclass(found):
        return frozenset()
    attributes = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(found)))
        if isinstance(node, ast.Attribute) and _own(node.value)
    }
    return frozenset(part for part in attributes | set(vars(found)) if _private(part))


def test_private_parts_of_aioquic_are_inherited_in_three_files() -> None:
    found = {str(path.relative_to(APP)): set(inherited_parts(path.read_text())) for path in sorted(APP.rglob("*.py"))}
    assert {name for name, parts in found.items() if parts} == AIOQUIC


@pytest.mark.parametrize(
    "source",
    [
        "from aioquic.quic.connection import QuicConnection\nclass A(QuicConnection):\n  def a(self): self._streams",
        "from aioquic import tls\nclass A(tls.Context):\n  def _server_handle_hello(self): ...",
        "from aioquic.tls import Context as C\nclass A(C):\n  def a(self): super()._set_state(1)",
    ],
)
def test_an_inherited_part_is_found(source: str) -> None:
    assert len(list(inherited_parts(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n  def a(self): self._streams",
        "from aioquic.quic.connection import QuicConnection\nclass A(QuicConnection):\n  def a(self): self._ours",
        "from aioquic.quic.connection import QuicConnection\nclass A(QuicConnection):\n  def a(self): self.close()",
    ],
)
def test_what_is_not_inherited_is_none(source: str) -> None:
    assert list(inherited_parts(source)) == []


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
