"""Servers every test may use: started once a session, on first use; names and databases are fresh for each test."""

import asyncio
import gc
import logging
import secrets
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest
import structlog

from app.local.servers.mosquitto import Mosquitto
from tests import servers

# `make unit` is for every save of a file. `make test` takes the same examples each time: a red one is due to the
# change, and can be repeated. `make properties` looks for new failures. No deadlines: they time the machine, and a busy
# machine is no bug.
hypothesis.settings.register_profile("quick", max_examples=10, deadline=None)
hypothesis.settings.register_profile("full", max_examples=100, deadline=None, derandomize=True)
hypothesis.settings.register_profile("many", max_examples=1500, deadline=None)
hypothesis.settings.load_profile("quick")

# Whoever starts the tests in the background of a script starts them with SIGINT ignored, and every program they start
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Files of a minute and more, the longest first, and files of half a minute outside SLOW.
LONG = (
    "test_simulation", "test_kill_worker", "test_stack_up", "test_random", "test_presence", "test_tracing",
    "test_trace", "test_bridge", "test_topic_anew", "test_stalled_worker", "test_stop", "test_outage",
    "test_alert_machine", "test_watching",
)  # fmt: skip
SLOW = ("faults", "integration", "contract", "simulation", "deploy", "pipeline")

INIT_SQL = Path(__file__).parents[1] / "init.sql"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then directories of slow files: of files that run three at a time, a slow file at the end
    runs alone. (`make test` has xdist not sort files by their number of tests, which puts slow files last.)
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.path.stem in LONG:
        return LONG.index(item.path.stem)
    return len(LONG) + next((at for at, name in enumerate(SLOW) if name in item.path.parts), len(SLOW))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported has no cycles worth looking for: that was a third of what collecting costs each process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What is imported stays: the collections after each test (below) need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _kept() -> None:
    """What earlier files left stays too. The collections after each test looked at all of it again, for 40 ms each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """A connection that a test left open is reported at that test, not at the test that runs at its collection."""
    yield
    if "unit" not in request.path.parts:
        gc.collect()


@pytest.fixture(scope="session")
def kafka() -> Iterator[servers.KafkaServer]:
    """A broker: `.bootstrap`. Topics have to be created; use `topic_prefix` in their names."""
    with servers.kafka() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.PostgresServer]:
    """A PostgreSQL server: `.dsn` of its superuser, `.dsn_of(database)`."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[servers.MqttServer]:
    """An MQTT broker: `.host .port`, and `.username .password` of an account allowed on every topic."""
    with servers.mosquitto() as server:
        if isinstance(server, Mosquitto):
            _embedded.append(server)
        yield server
        _embedded.clear()


_embedded: list[Mosquitto] = []
LEFT_BEHIND = 1 << 20  # bytes of sessions


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process silences all logs: so it would for the tests after it."""
    yield
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(scope="module", autouse=True)
def no_sessions_left_behind() -> Iterator[None]:
    """Sessions of a file's bridges end with the file: else they queue what all later tests publish, some 250 MB by the
    end, and Mosquitto writes all of it each second.
    """
    yield
    for broker in _embedded:
        saved = broker.data_dir / "data" / "mosquitto.db"
        if saved.exists() and saved.stat().st_size > LEFT_BEHIND:
            broker.kill()
            saved.unlink()
            broker.start()
            broker.wait_ready()


@pytest.fixture
def unique() -> str:
    """A name no other test uses; fits a topic, a group, an app name and a database."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def topic_prefix(unique: str) -> str:
    """First part of a test's topics, `<unique>-`."""
    return f"{unique}-"


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """Directory for a server a test starts itself, to kill it for example."""
    with servers.server_directory() as path:
        yield path


@pytest.fixture
def database(postgres: servers.PostgresServer, unique: str) -> Iterator[str]:
    """URL of a fresh database with init.sql applied; dropped afterwards."""
    asyncio.run(_execute(postgres.dsn, f"CREATE DATABASE {unique}"))
    dsn = postgres.dsn_of(unique)
    try:
        if INIT_SQL.exists():
            asyncio.run(_execute(dsn, INIT_SQL.read_text()))
        yield dsn
    finally:
        asyncio.run(_execute(postgres.dsn, f"DROP DATABASE {unique} WITH (FORCE)"))


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
