"""TLS and accounts against real listeners: who is let in, who is refused and why, and the whole path encrypted."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts
from aiokafka.errors import SaslAuthenticationFailed
from aiokafka.protocol.admin import CreateAclsRequest
from pydantic import SecretStr

from app.doctor import database, kafka, mqtt
from app.doctor.finding import Level
from app.errors import TransientError
from app.kafka.access import access, dial
from app.kafka.close_clients import close_connection
from app.kafka.topic_ids import TopicIds
from app.kafka.topics import TopicSpec, create, existing, wanted
from app.local.servers.common import free_port
from app.postgres.connect import connect
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, advice, classify
from app.settings import Settings
from tests.conftest import INIT_SQL
from tests.integration.bridges import program as bridge_program
from tests.integration.bridges import publisher
from tests.integration.test_notifier import listening
from tests.integration.test_path import Device
from tests.secured import (
    ACCOUNT,
    PASSWORD,
    PROGRAMS,
    Certificates,
    SecuredKafka,
    SecuredMosquitto,
    SecuredPostgres,
    account_of,
    running,
)
from tests.servers import KafkaServer, PostgresServer, server_directory
from tests.unit.deadletters.letters import held
from tests.waiting import open_sockets
from tests.workers import ROOT, Site, until
from tools.documents import DOCS
from tools.faults.load import RULES
from tools.faults.ways.setup import open_account

pytestmark = pytest.mark.integration

Values = dict[str, object]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of this module."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured_kafka(certificates: Certificates) -> Iterator[SecuredKafka]:
    """A broker with every kind of listener."""
    with server_directory() as directory, running(server := SecuredKafka(directory, certificates)):
        yield server


@pytest.fixture(scope="module")
def secured_postgres(certificates: Certificates) -> Iterator[SecuredPostgres]:
    """A server that takes TLS alone."""
    with server_directory() as directory, running(server := SecuredPostgres(directory, certificates)):
        server.secure()
        yield server


@pytest.fixture(scope="module")
def secured_mosquitto(certificates: Certificates) -> Iterator[SecuredMosquitto]:
    """A broker with TLS."""
    with server_directory() as directory, running(server := SecuredMosquitto(directory, certificates)):
        yield server


@pytest.fixture(scope="module")
def password_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the password of ACCOUNT."""
    path = tmp_path_factory.mktemp("secrets") / "kafka"
    path.write_text(f"{PASSWORD}\n")
    return path


def kafka_values(server: SecuredKafka, made: Certificates, listener: str, **more: object) -> Values:
    """Settings that are let in there."""
    encrypted = listener != "SASL_PLAINTEXT"
    values: Values = {
        "kafka_broker": server.at(listener),
        "kafka_security_protocol": "SSL" if listener == "MTLS" else listener,
    }
    values |= {"kafka_ca_file": made.ca} if encrypted else {}
    values |= {"kafka_certificate_file": made.client, "kafka_key_file": made.client_key} if listener == "MTLS" else {}
    values |= {"kafka_username": ACCOUNT, "kafka_password": SecretStr(PASSWORD)} if "SASL" in listener else {}
    return values | more


WAYS_IN = [
    ("SSL", {}),
    ("MTLS", {}),
    ("SASL_SSL", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}),
    ("SASL_SSL", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}),
    ("SASL_SSL", {"kafka_sasl_mechanism": "PLAIN"}),
    ("SASL_PLAINTEXT", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}),
]


@pytest.mark.parametrize(("listener", "more"), WAYS_IN)
async def test_kafka_lets_in(
    secured_kafka: SecuredKafka, certificates: Certificates, unique: str, listener: str, more: Values
) -> None:
    into = access(Settings(**kafka_values(secured_kafka, certificates, listener, **more)))  # type: ignore[arg-type]
    assert await create(into, [TopicSpec(unique, 1, {})], 1) == [unique]
    assert await existing(into, [unique]) == {unique: 1}
    assert PASSWORD not in repr(into)


REFUSALS: list[tuple[str, Values, str]] = [
    ("SSL", {"kafka_ca_file": "strange_ca"}, "certificate of Kafka at .* is not trusted .*IOT_KAFKA_CA_FILE"),
    ("SSL", {"kafka_ca_file": None}, "certificate of Kafka at .* is not trusted .*IOT_KAFKA_CA_FILE"),
    ("MTLS", {"kafka_certificate_file": None, "kafka_key_file": None}, "IOT_KAFKA_CERTIFICATE_FILE"),
    ("MTLS", {"kafka_certificate_file": "strange", "kafka_key_file": "strange_key"}, "IOT_KAFKA_CERTIFICATE_FILE"),
    ("SASL_SSL", {"kafka_password": SecretStr("wrong")}, f"refuses the account {ACCOUNT} .*IOT_KAFKA_PASSWORD_FILE"),
    ("SASL_SSL", {"kafka_username": "nobody"}, "refuses the account nobody .*IOT_KAFKA_USERNAME"),
    (
        "SASL_SSL",
        {"kafka_password": SecretStr("wrong"), "kafka_sasl_mechanism": "PLAIN"},
        f"refuses the account {ACCOUNT} ",
    ),
    ("SSL", {"kafka_security_protocol": "PLAINTEXT", "kafka_ca_file": None}, "IOT_KAFKA_SECURITY_PROTOCOL"),
    ("SASL_SSL", {"kafka_security_protocol": "SSL"}, "IOT_KAFKA_SECURITY_PROTOCOL"),
    ("SASL_PLAINTEXT", {"kafka_security_protocol": "SASL_SSL"}, "does it speak TLS"),
]


@pytest.mark.parametrize(("listener", "wrong", "words"), REFUSALS)
async def test_kafka_refuses_and_it_is_said_why(
    secured_kafka: SecuredKafka, certificates: Certificates, listener: str, wrong: Values, words: str
) -> None:
    wrong = {name: getattr(certificates, str(v)) if hasattr(certificates, str(v)) else v for name, v in wrong.items()}
    settings = Settings(**kafka_values(secured_kafka, certificates, listener, **wrong))  # type: ignore[arg-type]
    with pytest.raises(TransientError, match=words) as raised:
        await existing(access(settings), ["x"])
    assert "wrong" not in str(raised.value)
    (found,) = [one for one in await kafka.look(settings) if one.level is Level.BROKEN]
    assert found.what in str(raised.value).replace("cannot reach", "no way into") or words.split(".*")[-1] in found.what


async def test_nothing_is_left_of_a_connection_that_was_refused_or_has_been_used(
    secured_kafka: SecuredKafka, certificates: Certificates
) -> None:
    """TLS ends when both sides have said so: with the loop gone before that, the socket is the collector's."""
    sockets = open_sockets()
    let_in = access(Settings(**kafka_values(secured_kafka, certificates, "SASL_SSL")))  # type: ignore[arg-type]
    wrong = kafka_values(secured_kafka, certificates, "SASL_SSL", kafka_username="nobody")
    refused = access(Settings(**wrong))  # type: ignore[arg-type]
    [(host, port, _)] = collect_hosts(let_in.servers)
    with pytest.raises(SaslAuthenticationFailed):
        await dial(host, port, refused, 5_000)
    assert open_sockets() == sockets
    connection = await dial(host, port, let_in, 5_000)
    assert open_sockets() > sockets
    await close_connection(connection)
    assert open_sockets() == sockets
    ids = TopicIds(let_in)
    await ids.ask(["x"])
    await ids.close()
    assert open_sockets() == sockets


async def test_a_broker_that_answers_has_the_word(secured_kafka: SecuredKafka, certificates: Certificates) -> None:
    """A broker of several may be away; the password is wrong at the other broker."""
    values = kafka_values(secured_kafka, certificates, "SASL_SSL", kafka_password=SecretStr("wrong"))
    settings = Settings(**{**values, "kafka_broker": f"127.0.0.1:1,{values['kafka_broker']}"})  # type: ignore[arg-type]
    with pytest.raises(TransientError, match="refuses the account"):
        await existing(access(settings), ["x"])


def database_values(server: SecuredPostgres, made: Certificates, **more: object) -> Values:
    """Settings that are let in there."""
    return {"database_url": SecretStr(server.dsn), "database_tls": True, "database_ca_file": made.ca, **more}


async def test_postgres_lets_in(secured_postgres: SecuredPostgres, certificates: Certificates) -> None:
    connection = await connect(Settings(**database_values(secured_postgres, certificates)), "test")  # type: ignore[arg-type]
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    await connection.close()
    own = {"database_certificate_file": certificates.client, "database_key_file": certificates.client_key}
    dsn = SecretStr(secured_postgres.dsn.replace(f"postgres:{secured_postgres.password}@", "certified:certified@"))
    values = database_values(secured_postgres, certificates, database_url=dsn, **own)
    connection = await connect(Settings(**values), "test")  # type: ignore[arg-type]
    assert await connection.fetchval("SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()
    by_url = f"{secured_postgres.dsn}?sslmode=verify-full&sslrootcert={certificates.ca}"
    await (await connect(Settings(database_url=SecretStr(by_url)), "test")).close()


async def test_postgres_refuses_and_it_is_said_why(
    secured_postgres: SecuredPostgres, certificates: Certificates
) -> None:
    dsn = secured_postgres.dsn
    certified = dsn.replace(f"postgres:{secured_postgres.password}@", "certified:certified@")
    for wrong, words in (
        ({"database_ca_file": certificates.strange_ca}, "IOT_DATABASE_CA_FILE"),
        ({"database_ca_file": None}, "IOT_DATABASE_CA_FILE"),
        ({"database_url": SecretStr(dsn.replace(secured_postgres.password, "wrong"))}, "IOT_DATABASE_PASSWORD_FILE"),
        ({"database_url": SecretStr(certified)}, "IOT_DATABASE_CERTIFICATE_FILE"),
        (
            {"database_url": SecretStr(f"{dsn}?sslmode=disable"), "database_tls": False, "database_ca_file": None},
            "IOT_DATABASE_TLS",
        ),
    ):
        settings = Settings(**{**database_values(secured_postgres, certificates), **wrong})  # type: ignore[arg-type]
        with pytest.raises(DATABASE_ERRORS) as raised:
            await connect(settings, "test")
        assert classify(raised.value) is Failure.PERMANENT
        assert words in (advice(raised.value) or ""), raised.value
        (found,) = await database.look(settings)
        assert words in found.cure


async def test_a_postgres_without_tls_is_not_talked_to(postgres: PostgresServer) -> None:
    with pytest.raises(ConnectionError) as refused:
        await connect(Settings(database_url=SecretStr(postgres.dsn), database_tls=True), "test")
    assert "switch it on" in (advice(refused.value) or "")


async def test_the_name_of_a_server_is_checked(secured_postgres: SecuredPostgres, certificates: Certificates) -> None:
    """The certificate is for 127.0.0.1 and localhost; 127.0.0.2 is the same server."""
    dsn = SecretStr(secured_postgres.dsn.replace("@127.0.0.1", "@127.0.0.2"))
    values = database_values(secured_postgres, certificates, database_url=dsn)
    with pytest.raises((*DATABASE_ERRORS,)):
        await connect(Settings(**values), "test")  # type: ignore[arg-type]


def mqtt_values(server: SecuredMosquitto, made: Certificates, **more: object) -> Values:
    """Settings that are let in there."""
    return {
        "mqtt_host": server.host,
        "mqtt_port": server.tls_port,
        "mqtt_username": server.username,
        "mqtt_password": server.password,
        "mqtt_tls": True,
        "mqtt_ca_file": made.ca,
        **more,
    }


async def test_mosquitto_lets_in(secured_mosquitto: SecuredMosquitto, certificates: Certificates) -> None:
    own = {"mqtt_certificate_file": certificates.client, "mqtt_key_file": certificates.client_key}
    for more in ({}, {"mqtt_port": secured_mosquitto.mtls_port, **own}, {"mqtt_host": "localhost"}):
        values = mqtt_values(secured_mosquitto, certificates, **more)
        (found,) = await mqtt.look(Settings(**values))  # type: ignore[arg-type]
        assert (found.level, "encrypted" in found.what) == (Level.OK, True), found


WRONG_MQTT: list[tuple[Values, str]] = [
    ({"mqtt_ca_file": "strange_ca"}, "is not trusted .*IOT_MQTT_CA_FILE"),
    ({"mqtt_password": "wrong"}, "IOT_MQTT_USERNAME"),
    ({"mqtt_port": "mtls_port"}, "IOT_MQTT_CERTIFICATE_FILE"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_MQTT)
async def test_the_bridge_says_why_it_is_not_let_in(
    secured_mosquitto: SecuredMosquitto, certificates: Certificates, tmp_path: Path, wrong: Values, words: str
) -> None:
    places = [certificates, secured_mosquitto]
    wrong = {k: next((getattr(p, str(v)) for p in places if hasattr(p, str(v))), v) for k, v in wrong.items()}
    values = mqtt_values(secured_mosquitto, certificates, **wrong)
    with bridge_program("bridge", tmp_path / "log", kafka_broker="127.0.0.1:1", **values) as bridge:
        await bridge.logged("bridge_mqtt_disconnected")
        bridge.stop()
    text = bridge.log.read_text()
    assert re.search(words, text), text


async def test_the_notifier_says_why_it_is_not_let_in(
    secured_mosquitto: SecuredMosquitto, certificates: Certificates, tmp_path: Path
) -> None:
    values = mqtt_values(secured_mosquitto, certificates, mqtt_ca_file=certificates.strange_ca)
    with bridge_program("notifier", tmp_path / "log", kafka_broker="127.0.0.1:1", **values) as notifier:
        await notifier.logged("notifier_mqtt_unreachable")
        notifier.stop()
    assert "is not trusted" in notifier.log.read_text()


@pytest.fixture
async def secured_database(secured_postgres: SecuredPostgres, unique: str) -> str:
    """URL of a fresh database with the schema."""
    admin = await asyncpg.connect(secured_postgres.dsn)
    await admin.execute(f"CREATE DATABASE {unique}")
    await admin.close()
    dsn = secured_postgres.dsn_of(unique)
    connection = await asyncpg.connect(dsn)
    await connection.execute(INIT_SQL.read_text())
    await connection.close()
    return dsn


async def test_the_whole_path_encrypted(
    secured_kafka: SecuredKafka,
    secured_mosquitto: SecuredMosquitto,
    secured_database: str,
    certificates: Certificates,
    password_file: Path,
    unique: str,
    tmp_path: Path,
) -> None:
    more = kafka_values(secured_kafka, certificates, "SASL_SSL", kafka_password_file=password_file)
    del more["kafka_password"]
    more |= {"database_tls": True, "database_ca_file": certificates.ca}
    more |= mqtt_values(secured_mosquitto, certificates)
    site = Site(secured_kafka.bootstrap, secured_database, secured_mosquitto, unique, tmp_path, more)
    assert await command("topics", "create", **environment(site)) == 0
    await site.set_rules(RULES)
    async with listening(site.mqtt, unique) as heard, publisher(site.mqtt, f"device-{unique}") as client:
        with site.program("worker") as worker, site.program("notifier") as notifier, site.program("bridge") as bridge:
            for one in (worker, notifier, bridge):
                await one.ready()
                _, page = await one.get("/metrics")
                ends = re.findall(
                    r'^iot_certificate_expiry_timestamp_seconds\{connection="(\w+)",file="ca"\} (\S+)', page, re.M
                )
                assert {connection for connection, _ in ends} == {"kafka", "database", "mqtt"}
                assert all(float(end) > time.time() for _, end in ends), "and an alert would say when not"
            device = Device(client, unique)
            for temperature in (70, 95, 60):
                await device.reads(temperature=temperature)
            await device.publishes(b"no json")

            async def reported() -> bool:
                return len(heard) == 2

            await until(reported, 30, lambda: f"heard {heard}\n{worker.tail()}")
            await site.settled()
            encrypted = await site.fetch(
                "SELECT DISTINCT application_name, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert {row["application_name"] for row in encrypted} >= {"iot-stream store", f"notifier-{unique}"}
            assert all(row["ssl"] for row in encrypted)
            assert await command("doctor", "--count", "10", **environment(site)) in (0, 1)
            for one in (bridge, worker, notifier):
                one.stop()
    assert [event["status"] for event in heard] == ["FIRING", "RESOLVED"]
    (count,) = await site.fetch("SELECT count(*) FROM raw_telemetry")
    assert count[0] == 3
    assert sum((await site.ends(site.settings.kafka_dlq_topic)).values()) == 1
    for one in (bridge, worker, notifier):
        assert PASSWORD not in one.log.read_text()


OPERATED = (
    "dlq ls", "dlq show", "dlq export", "dlq import FILE --yes", "dlq replay", "dlq replay --yes",
    "dlq purge --all --yes", "history reset --to-earliest --yes", "history replay --into again --yes",
    "history verify", "history export --output OUT.csv",
)  # fmt: skip


async def refusal_of(words: str, values: Values, directory: Path) -> str:
    """The one line of a command that ends with exit code 1."""
    file = directory / "letters.jsonl"
    file.write_bytes(held(b"{").value or b"")
    words = words.replace("FILE", str(file)).replace("OUT", str(directory / "out"))
    plain = {name: v.get_secret_value() if isinstance(v, SecretStr) else v for name, v in values.items()}
    given = {f"IOT_{name.upper()}": str(value) for name, value in plain.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *words.split(), env={**os.environ, **given}, cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, error = await asyncio.wait_for(process.communicate(), 60)
    lines = error.decode().splitlines()
    assert (process.returncode, lines[-1].startswith("iot-stream: ")) == (1, True), (words, lines)
    assert not [line for line in lines if "Traceback" in line or "wrong" in line], (words, lines)
    return lines[-1]


@pytest.mark.timeout(120)
async def test_a_wrong_password_of_kafka_is_one_line_of_each_command_of_an_operator(
    secured_kafka: SecuredKafka, certificates: Certificates, database: str, tmp_path: Path
) -> None:
    values = kafka_values(secured_kafka, certificates, "SASL_SSL", kafka_password=SecretStr("wrong"))
    for words in OPERATED:
        line = await refusal_of(words, {**values, "database_url": database}, tmp_path)
        assert re.search(f"refuses the account {ACCOUNT} .*IOT_KAFKA_PASSWORD_FILE", line), (words, line)


@pytest.mark.timeout(120)
async def test_so_is_one_of_the_database(
    secured_postgres: SecuredPostgres, certificates: Certificates, kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    values = database_values(secured_postgres, certificates)
    wrong = {**values, "database_url": SecretStr(secured_postgres.dsn.replace(secured_postgres.password, "wrong"))}
    wrong |= {"kafka_broker": kafka.bootstrap, "app": unique, "kafka_topic": unique, "mqtt_host": "127.0.0.1"}
    await create(access(Settings(kafka_broker=kafka.bootstrap)), [TopicSpec(unique, 1, {})], 1)
    for words in ("history replay --into again --yes", "history verify", "history export --from table --output OUT.csv",
                  "load --users 1 --duration 1"):  # fmt: skip
        assert "IOT_DATABASE_PASSWORD_FILE" in await refusal_of(words, wrong, tmp_path), words


OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}
TOPIC, GROUP, LITERAL, PREFIXED, ALLOW = 2, 3, 3, 4, 3


def documented_rights(settings: Settings) -> list[tuple[str, int, str, int]]:
    """(account, kind of resource, name, operation) of the table in docs/encryption.md."""
    topics = [topic.name for topic in wanted(settings)]
    names = dict(zip(("iot-stream", "iot-stream-dlq", "iot-alerts", "iot-<app>-state-changelog"), topics, strict=True))
    names |= {"iot-<app>": settings.group_id, "iot-<app>-notifier": f"{settings.group_id}-notifier"}
    names |= {"iot-<app>-history-*": f"{settings.group_id}-history-*"}
    names |= {"iot-stream-quarantine": settings.kafka_quarantine_topic, "iot-<app>-dlq-*": f"{settings.group_id}-dlq-*"}
    found = []
    table = (DOCS / "encryption.md").read_text().partition("| program |")[2].partition("\n\n")[0]
    for program, topic_cell, group_cell in re.findall(r"^\| (`?[a-z ]+`?) \| (.*?) \| ?(.*?) ?\|$", table, re.M):
        for kind, cell in ((TOPIC, topic_cell), (GROUP, group_cell)):
            for part in filter(None, cell.split("; ")):
                rights, _, where = re.sub("^`dlq purge` ", "", part).partition(" on ")
                if "the same" in part:
                    continue
                every = topics if kind == TOPIC else [names["iot-<app>"], names["iot-<app>-notifier"]]
                resources = every if "`" not in where else [names[name] for name in re.findall(r"`(.+?)`", where)]
                account = account_of(program.strip("`"))
                found += [(account, kind, name, OPERATIONS[one]) for name in resources for one in rights.split(", ")]
    return found


async def test_the_rights_in_the_documentation_are_all_that_is_needed(
    secured_kafka: SecuredKafka,
    secured_mosquitto: SecuredMosquitto,
    certificates: Certificates,
    database: str,
    unique: str,
    tmp_path: Path,
) -> None:
    def site(program: str, **settings: object) -> Site:
        more = kafka_values(secured_kafka, certificates, "SASL_SSL", kafka_username=account_of(program))
        more |= {"kafka_password": PASSWORD, **settings}
        return Site(secured_kafka.bootstrap, database, secured_mosquitto, unique, tmp_path, more)

    plain = site("worker")
    rights = documented_rights(plain.settings)
    assert {account for account, *_ in rights} == {account_of(program) for program in PROGRAMS}
    admin = AIOKafkaAdminClient(bootstrap_servers=secured_kafka.bootstrap)
    await admin.start()
    for account, kind, name, operation in rights:
        pattern = PREFIXED if name.endswith("*") else LITERAL
        request = CreateAclsRequest(kind, name.rstrip("*"), pattern, f"User:{account}", "*", operation, ALLOW)
        answer = await admin._send_request(request)
        assert [code for code, _ in answer.creation_responses] == [0], answer
    await admin.close()
    assert await command("topics", "create", **environment(site("topics create"))) == 0
    await plain.set_rules(RULES)
    await open_account(plain)
    by_http = site("gateways", http_port=free_port(), gateway_anonymous_account=unique)
    async with listening(plain.mqtt, unique) as heard, publisher(plain.mqtt, f"device-{unique}") as client:
        with (
            plain.program("worker") as worker,
            site("notifier").program("notifier") as notifier,
            site("bridge").program("bridge") as bridge,
            by_http.program("http") as http,
        ):
            for one in (worker, notifier, bridge, http):
                await one.ready()
            await posts_a_reading(by_http, unique)
            device = Device(client, unique)
            for temperature in (70, 95, 60):
                await device.reads(temperature=temperature)
            await device.publishes(b"no json")

            async def reported() -> bool:
                return len(heard) == 2

            await until(reported, 30, lambda: f"heard {heard}\n{worker.tail()}\n{notifier.tail()}")
            await plain.settled()
            assert await command("doctor", "--count", "10", **environment(site("doctor"))) in (0, 1)
            chosen = ("--user", unique, "--device", "d1", "--sequence", str(device.sequence))
            assert await command("trace", *chosen, **environment(site("trace"))) == 0
            for topic in ("in", "dlq", "alerts"):
                shown = ("--from-beginning", "--once")
                assert await command("tap", topic, *shown, **environment(site("tap"))) == 0
            assert await command("top", "--once", **environment(site("top"))) == 0
            for one in (bridge, http, worker, notifier):
                one.stop()
    rows = await plain.fetch(
        "SELECT temperature FROM raw_telemetry WHERE user_id = $1 AND device_id = 'posted'", unique
    )
    assert [row["temperature"] for row in rows] == [21.5]
    letters = str(tmp_path / "letters.jsonl")
    for who, *words in (
        ("dlq ls", "ls"),
        ("dlq ls", "show"),
        ("dlq ls", "export", "--output", letters),
        ("dlq replay", "replay", "--yes"),
        ("dlq import", "import", letters, "--yes"),
        ("dlq replay", "replay", "--yes", "--again", "--max-replays", "0"),  # to the quarantine topic
        ("dlq import", "purge", "--all", "--yes"),
    ):
        assert await command("dlq", *words, **environment(site(who))) == 0, words
    readings = str(tmp_path / "readings.csv")
    for options in (("verify", "--uncommitted"), ("verify",), ("export", "--output", readings)):
        assert await command("history", *options, **environment(site("history verify"))) == 0, words
    reset, replay = ("reset", "--to-earliest", "--wait", "60", "--yes"), ("replay", "--into", "again", "--yes")
    assert await command("history", *reset, **environment(site("history reset"))) == 0
    assert await command("history", *replay, **environment(site("history replay"))) == 0


async def posts_a_reading(site: Site, user: str) -> None:
    """Of the device `posted`, to the HTTP gateway; it is answered once Kafka has it."""
    item = {"user_id": user, "device_id": "posted", "sequence_id": 1, "timestamp": time.time(), "temperature": 21.5}
    url = f"http://127.0.0.1:{site.values['http_port']}/v1/events"
    async with aiohttp.ClientSession() as session, session.post(url, json=item) as answer:
        assert answer.status == 200, await answer.text()


def environment(site: Site) -> dict[str, str]:
    """The settings of the site as variables."""
    return {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}


async def command(*arguments: str, **environment: str) -> int:
    """Exit code of `iot-stream ...`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *arguments, env={**os.environ, **environment}, cwd=ROOT
    )
    return await asyncio.wait_for(process.wait(), 60)
