"""`iot-stream users` with a real PostgreSQL and a real Mosquitto: both let the same clients do the same."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import bcrypt
import pytest

from app.core.routing.tokens import digest, is_token
from app.local.layout import DEFAULT_PORTS, Layout
from app.local.servers.common import free_port
from app.local.servers.mosquitto import BRIDGE, NOTIFIER, OPERATOR, Mosquitto
from app.local.servers.postgres import Postgres
from app.postgres.schema.init_sql import apply, make_database
from tests.deploy.test_accounts import AUTHENTICATION, AUTHORIZATION, query
from tests.integration.test_stack_servers import Device
from tests.workers import ROOT

pytestmark = pytest.mark.integration

PASSWORD = "a good: password"
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def users(*arguments: str, given: str | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`iot-stream users ...`; `given` is its standard input."""
    command = [sys.executable, "-m", "app", "users", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, input=given or "", env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


async def rows(dsn: str, sql: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(sql, *values))
    finally:
        await connection.close()


async def test_the_life_of_an_account(database: str, tmp_path: Path) -> None:
    where = {"IOT_DATABASE_URL": database}
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    added = users("add", "alice", "--client-id", "d1", "--password-file", str(file), **where)
    assert (added.returncode, added.stdout, added.stderr) == (0, "added alice\n", "")
    (found,) = await rows(database, query(AUTHENTICATION), "alice", "d1")
    assert bcrypt.checkpw(PASSWORD.encode(), found["password_hash"].encode())
    assert not found["is_superuser"]
    assert await rows(database, query(AUTHENTICATION), "alice", "d2") == []
    again = users("add", "alice", "--password-file", str(file), **where)
    assert (again.returncode, again.stderr) == (1, "iot-stream: alice exists already: see `iot-stream users passwd`\n")

    allow = ("--allow", "subscribe:users/+/alerts", "--allow", "publish:users/bob/#")
    assert users("add", "dash", *allow, "--password-file", "-", given=PASSWORD, **where).returncode == 0
    listed = json.loads(users("list", "--json", **where).stdout)
    assert [(one["username"], one["client_id"], one["rules"]) for one in listed] == [
        ("alice", "d1", []),
        ("dash", None, ["allow subscribe:users/+/alerts", "allow publish:users/bob/#"]),
    ]
    assert "dash" in users("list", **where).stdout
    mine = await rows(database, query(AUTHORIZATION), "dash", "x")
    assert {row["topic"] for row in mine} >= {"users/+/alerts", "users/bob/#"}

    assert users("passwd", "alice", "--password-file", "-", given="another: good one\n", **where).returncode == 0
    (found,) = await rows(database, query(AUTHENTICATION), "alice", "d1")
    assert bcrypt.checkpw(b"another: good one", found["password_hash"].encode())

    assert users("remove", "dash", **where).stdout == "removed dash\n"
    assert await rows(database, "SELECT FROM mqtt_acl WHERE username = 'dash'") == []
    for command in (("remove", "dash"), ("passwd", "dash", "--password-file", str(file))):
        gone = users(*command, **where)
        assert (gone.returncode, gone.stderr) == (
            1,
            "iot-stream: there is no account dash: see `iot-stream users list`\n",
        )


async def test_an_account_of_one_device(database: str) -> None:
    where = {"IOT_DATABASE_URL": database}
    of_truck = ("--user", "alice", "--device", "truck-1", "--password-file", "-")
    for name in ("truck-1-key", "spare"):
        assert users("add", name, *of_truck, given=PASSWORD, **where).stdout == f"added {name}\n"
    listed = {one["username"]: one for one in json.loads(users("list", "--json", **where).stdout)}
    key = listed["truck-1-key"]
    assert (key["user"], key["device"], key["client_id"]) == ("alice", "truck-1", "alice:truck-1")
    assert "alice, device truck-1 alone" in users("list", **where).stdout
    assert await rows(database, query(AUTHENTICATION), "truck-1-key", "alice:truck-1"), "EMQX lets it in"
    assert await rows(database, query(AUTHENTICATION), "truck-1-key", "truck-2") == []
    mine = await rows(database, query(AUTHORIZATION), "truck-1-key", "alice:truck-1")
    assert {(row["permission"], row["action"], row["topic"]) for row in mine} == {
        ("allow", "publish", "users/alice/devices/truck-1/telemetry"),
        ("allow", "publish", "iot/alice/truck-1/telemetry"),
        ("allow", "subscribe", "users/alice/devices/truck-1/commands"),
    }


async def test_the_life_of_a_token(database: str) -> None:
    where = {"IOT_DATABASE_URL": database}
    assert users("add", "alice", "--password-file", "-", given=PASSWORD, **where).returncode == 0
    made = users("token", "add", "alice", "--device", "truck-1", "--expires", "90d", "--name", "for the truck", **where)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert is_token(token)
    assert "it is not shown again" in made.stderr
    other = json.loads(users("token", "add", "alice", "--json", **where).stdout)
    assert is_token(other["token"])
    assert (other["device"], other["expires"]) == (None, None)

    kept = await rows(database, "SELECT * FROM gateway_tokens ORDER BY id")
    assert [row["token_hash"] for row in kept] == [digest(token), digest(other["token"])]
    assert (kept[0]["expires_at"] - kept[0]["created_at"]).days == 90
    shown = users("token", "list", "alice", "--json", **where).stdout
    assert [(one["device"], one["name"], one["ended"]) for one in json.loads(shown)] == [
        ("truck-1", "for the truck", False),
        (None, "", False),
    ]
    told = shown + users("token", "list", **where).stdout
    assert not any(secret in told for secret in (token, token[5:], other["token"]))
    assert json.loads(users("token", "list", "bob", "--json", **where).stdout) == []

    number = str(json.loads(shown)[0]["id"])
    assert users("token", "revoke", number, **where).stdout == f"revoked token {number} of alice\n"
    gone = users("token", "revoke", number, **where)
    assert (gone.returncode, gone.stderr) == (
        1,
        f"iot-stream: there is no token {number}: see `iot-stream users token list`\n",
    )
    assert users("remove", "alice", **where).returncode == 0
    assert await rows(database, "SELECT FROM gateway_tokens") == []
    nobody = users("token", "add", "alice", **where)
    assert (nobody.returncode, "there is no account alice" in nobody.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "given", "words"),
    [
        (("add", "a", "--device", "d", "--password-file", "-"), PASSWORD, "needs both: --user USER --device DEVICE"),
        (("add", "a", "--user", "u", "--password-file", "-"), PASSWORD, "needs both: --user USER --device DEVICE"),
        (("add", "a", "--user", "a", "--device", "d", "--password-file", "-"), PASSWORD, "needs a name of its own"),
        (("add", "a", "--user", "u", "--device", "d/e", "--password-file", "-"), PASSWORD, "cannot be a device"),
        (("add", "a", "--user", "u", "--device", "d${x}", "--password-file", "-"), PASSWORD, "no $"),
        (("token", "add", "a", "--device", "+"), None, "cannot be a device of a token"),
        (("token", "add", "a", "--expires", "never"), None, "is not a duration"),
        (("token", "add", "a", "--name", "a\nb"), None, "--name: give one line"),
        (("token", "list"), None, "the database: "),
        (("add", "+", "--password-file", "-"), PASSWORD, "'+' cannot be a user name"),
        (("add", "#", "--password-file", "-"), PASSWORD, "'#' cannot be a user name"),
        (("add", "a", "--client-id", "+", "--password-file", "-"), PASSWORD, "'+' cannot be a client id"),
        (("add", "a", "--allow", "publish:a/#/b", "--password-file", "-"), PASSWORD, "is no topic filter"),
        (("add", "a", "--password-file", "-"), "short", "too short"),
        (("add", "a", "--password-file", "-"), "x" * 73, "too long"),
        (("add", "a", "--password-file", "/no/such/file"), None, "cannot read the password from /no/such/file"),
        (("add", "a"), None, "no password: name its file"),
        (("list", "--local", "--dir", "/no/such/stack"), None, "no local stack runs"),
        (("list",), None, "the database: "),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], given: str | None, words: str) -> None:
    """Before the database is asked for anything, and as wrong arguments; a database or a stack that is away: 1."""
    done = users(*arguments, given=given, IOT_DATABASE_URL=NOWHERE)
    assert done.returncode == (1 if words in ("the database: ", "no local stack runs") else 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_no_password_can_be_given_on_the_command_line() -> None:
    said = users("add", "--help").stdout
    assert "Examples:" in said
    assert "--password-file" in said
    assert not re.search(r"--password\b(?!-file)", said)
    assert users("add", "a", "--password", PASSWORD, IOT_DATABASE_URL=NOWHERE).returncode == 2


def test_the_database_says_no(database: str) -> None:
    done = users("list", IOT_DATABASE_URL=database.replace("postgres:", "nobody:"))
    assert done.returncode == 1
    assert "IOT_DATABASE_PASSWORD_FILE" in done.stderr


class Local:
    """A local stack of two servers."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.postgres = Postgres(root / "postgres")
        self.broker = Mosquitto(root / "mosquitto")

    def start(self) -> None:
        """With the files a supervisor leaves."""
        for server in (self.postgres, self.broker):
            server.start()
            server.wait_ready()
        asyncio.run(make_database(self.postgres.dsn, "iot"))
        asyncio.run(apply(self.postgres.dsn_of("iot")))
        ports = dict.fromkeys(DEFAULT_PORTS, 1) | {"postgres": self.postgres.port, "mosquitto": self.broker.port}
        self.layout.ports.write_text(json.dumps(ports))
        self.remember()
        self.layout.write_env({"MQTT_PORT": str(self.broker.port)})

    def remember(self) -> None:
        """Which processes they are."""
        known = {
            name: {"pid": server.pid, "created": server.process.created, "restarts": 0}
            for name, server in (("postgres", self.postgres), ("mosquitto", self.broker))
        }
        self.layout.processes.write_text(json.dumps(known))

    def users(self, *arguments: str, given: str | None = None) -> None:
        """`iot-stream users ... --local`, which must go well."""
        done = users(*arguments, "--local", "--dir", str(self.layout.root), given=given)
        assert (done.returncode, done.stderr) == (0, ""), done


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """With the accounts alice, bob and dash."""
    from tests.servers import server_directory

    with server_directory() as root:
        made = Local(root)
        try:
            made.start()
            for name in ("alice", "bob"):
                made.users("add", name, "--password-file", "-", given=PASSWORD)
            of_d1 = ("--user", "alice", "--device", "d1")
            made.users("add", "alice-d1", *of_d1, "--password-file", "-", given=PASSWORD)
            made.users("add", "dash", "--allow", "subscribe:users/+/alerts", "--password-file", "-", given=PASSWORD)
            until_let_in(made.broker, "dash", PASSWORD)
            yield made
        finally:
            made.broker.stop()
            made.postgres.stop()


def login(broker: Mosquitto, account: str | None, password: str | None, client_id: str = "d1") -> str:
    """What the broker says to a CONNECT."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    said: list[str] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    if account is not None:
        client.username_pw_set(account, password)
    client.on_connect = lambda client, data, flags, reason, properties: said.append(str(reason))
    client.connect(broker.host, broker.port)
    deadline = time.monotonic() + 10
    while not said and time.monotonic() < deadline:
        client.loop(0.05)
    client.disconnect()
    client.loop(0.05)
    return said[0]


def until_let_in(broker: Mosquitto, account: str, password: str) -> None:
    """The broker reads its files a moment after the signal to do so."""
    deadline = time.monotonic() + 20
    while login(broker, account, password) != "Success":
        assert time.monotonic() < deadline, f"{account} is not let in"


def may(rules: list[asyncpg.Record], action: str, topic: str, username: str, client_id: str) -> bool:
    """EMQX's decision by rows of its query: the first that matches, else no."""
    for row in rules:
        pattern = row["topic"].replace("${username}", username).replace("${clientid}", client_id)
        if row["action"] in (action, "all") and matches(pattern, topic):
            return bool(row["permission"] == "allow")
    return False


def matches(pattern: str, topic: str) -> bool:
    """MQTT's filters."""
    expression = "/".join("[^/]+" if level == "+" else re.escape(level) for level in pattern.split("/"))
    return re.fullmatch(expression.replace(r"/\#", "(/.*)?").replace(r"\#", ".*"), topic) is not None


TOPICS = [
    "users/alice/devices/d1/telemetry", "users/alice/devices/d2/telemetry", "users/bob/devices/d1/telemetry",
    "users/alice/config", "users/bob/config", "users/alice/alerts/manage", "users/bob/alerts/manage",
    "users/alice/alerts", "users/bob/alerts", "users/alice/alerts/errors", "users/bob/config/errors",
    "users/alice/devices/d1/commands", "users/alice/devices/d2/commands", "users/alice", "anything",
    "iot/alice/d1/telemetry", "iot/alice/d2/telemetry", "iot/bob/d1/telemetry", "iot/alice/status", "iot/d1/status",
    "iot/bob/status", "users/alice-d1/config", "users/alice-d1/devices/d1/telemetry", "iot/alice-d1/d1/telemetry",
    "users/alice-d1/alerts", "$SYS/broker/uptime",
]  # fmt: skip


@pytest.mark.parametrize("account", ["alice", "dash", "alice-d1"])
def test_mosquitto_allows_what_the_table_allows(local: Local, account: str) -> None:
    rules = asyncio.run(rows(local.postgres.dsn_of("iot"), query(AUTHORIZATION), account, "d1"))
    operator = Device(local.broker, OPERATOR, "operator")
    device = Device(local.broker, account, "d1", PASSWORD)
    try:
        device.subscribe("#")
        for topic in TOPICS:
            if not topic.startswith("$"):
                assert (device.publish(topic) == "Success") is may(rules, "publish", topic, account, "d1"), topic
        device.received.clear()
        for topic in TOPICS[:-1]:
            operator.publish(topic)
        expected = {topic for topic in TOPICS[:-1] if may(rules, "subscribe", topic, account, "d1")}
        assert expected
        assert device.wait(lambda: set(device.received) >= expected)
        device.wait(lambda: set(device.received) - expected, 0.5)
        assert set(device.received) == expected
    finally:
        operator.close()
        device.close()


def test_a_device_s_account_does_not_touch_the_rules_of_its_user(local: Local) -> None:
    rules = asyncio.run(rows(local.postgres.dsn_of("iot"), query(AUTHORIZATION), "alice-d1", "alice:d1"))
    allowed = {topic for topic in TOPICS if may(rules, "publish", topic, "alice-d1", "alice:d1")}
    assert allowed == {"users/alice/devices/d1/telemetry", "iot/alice/d1/telemetry"}


def test_who_is_not_let_in(local: Local) -> None:
    assert login(local.broker, "alice", PASSWORD) == "Success"
    for account, password in ((None, None), ("alice", "wrong"), ("alice", ""), ("nobody", PASSWORD), ("+", PASSWORD)):
        assert login(local.broker, account, password) == "Not authorized", account


@pytest.mark.parametrize("client_id", ["+", "#", "a+b"])
def test_a_client_id_is_no_wildcard(local: Local, client_id: str) -> None:
    """Mosquitto lets it in and nothing through; EMQX does not let it in."""
    assert asyncio.run(rows(local.postgres.dsn_of("iot"), query(AUTHENTICATION), "alice", client_id)) == []
    operator, device = Device(local.broker, OPERATOR, "operator"), Device(local.broker, "alice", client_id, PASSWORD)
    try:
        device.subscribe("users/alice/devices/#")
        for topic in ("users/alice/devices/d2/telemetry", f"users/alice/devices/{client_id}/telemetry"):
            if not set(topic) & set("+#"):
                assert device.publish(topic) != "Success", topic
        operator.publish("users/alice/devices/d2/commands")
        assert not device.wait(lambda: bool(device.received), 0.5)
    finally:
        operator.close()
        device.close()


def test_passwords_change_and_accounts_go(local: Local) -> None:
    local.users("add", "carol", "--password-file", "-", given=PASSWORD)
    until_let_in(local.broker, "carol", PASSWORD)
    local.users("passwd", "carol", "--password-file", "-", given="another: one too")
    until_let_in(local.broker, "carol", "another: one too")
    assert login(local.broker, "carol", PASSWORD) == "Not authorized"
    local.users("remove", "carol")
    deadline = time.monotonic() + 20
    while login(local.broker, "carol", "another: one too") == "Success":
        assert time.monotonic() < deadline
    files = [local.broker.data_dir / name for name in ("passwords", "accounts.json", "acl")]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert not any(PASSWORD in file.read_text() for file in files)


def test_accounts_outlive_a_restart_of_the_broker(local: Local) -> None:
    port = free_port()
    again = Mosquitto(local.broker.data_dir, port)
    local.broker.stop()
    again.start()
    try:
        again.wait_ready()
        assert login(again, "alice", PASSWORD) == "Success"
        for account in (BRIDGE, NOTIFIER):
            assert login(again, account, again.password_of(account), account) == "Success"
    finally:
        again.stop()
        local.broker.start()
        local.broker.wait_ready()
        local.remember()


@pytest.mark.parametrize("name", [OPERATOR, BRIDGE, NOTIFIER])
def test_the_stacks_own_accounts_are_left_alone(local: Local, name: str) -> None:
    directory = str(local.layout.root)
    done = users("add", name, "--local", "--dir", directory, "--password-file", "-", given=PASSWORD)
    assert (done.returncode, done.stderr) == (1, f"iot-stream: {name} is an account of the local stack itself\n")
