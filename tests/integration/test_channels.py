"""Alerts to e-mail and to another web service by a real notifier: a real SMTP server and a real receiver take them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope

from app.core.model.alert_event import Severity
from tests.integration.bridges import create_topics, figure, program, until
from tests.integration.test_notifier import event, outbox, settings
from tests.servers import KafkaServer, MqttServer

pytestmark = pytest.mark.integration


class MailServer:
    """An SMTP server; `answers` are what it says first, then it takes every message."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.taken: list[Message] = []
        self.tries = self.port = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.tries += 1
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        self.taken.append(message_from_bytes(envelope.content))
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        """In the order in which they came."""
        return [str(message["Subject"]).replace("\n", "") for message in self.taken]


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    made = MailServer()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(made), "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


class Receiver:
    """A web service: it takes what is posted to /alerts, and sends what is posted to /elsewhere to another host."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.lured = self.port = 0
        self.answering = asyncio.Event()  # until it is set, what is posted to /hang waits
        app = web.Application()
        app.router.add_post("/alerts", self._take)
        app.router.add_post("/elsewhere", self._redirect)
        app.router.add_post("/hang/{number}", self._hang)
        app.router.add_get("/inside", self._inside)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def _take(self, request: web.Request) -> web.Response:
        self.taken.append(await request.json())
        return web.Response()

    async def _hang(self, request: web.Request) -> web.Response:
        await self.answering.wait()
        return await self._take(request)

    async def _redirect(self, _: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"http://127.0.0.2:{self.port}/inside"})

    async def _inside(self, _: web.Request) -> web.Response:
        self.lured += 1
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.runner.setup()
    site = web.TCPSite(made.runner, "0.0.0.0", 0)
    await site.start()
    made.port = made.runner.addresses[0][1]
    yield made
    await made.runner.cleanup()


async def configure(database: str, **channels: Sequence[Mapping[str, object]]) -> None:
    """Write the channels of users; `everybody` is the user *."""
    connection = await asyncpg.connect(database)
    for user, entries in channels.items():
        name = "*" if user == "everybody" else user
        sql = "INSERT INTO user_channels VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE SET channels = $2"
        await connection.execute(sql, name, json.dumps(entries))
    await connection.close()


def of_severity(record: tuple[bytes, bytes], severity: Severity) -> tuple[bytes, bytes]:
    return record[0], json.dumps({**json.loads(record[1]), "severity": severity.value}).encode()


async def test_mail_and_a_web_service_get_a_users_alerts_in_order(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, mail: MailServer, receiver: Receiver,
    tmp_path: Path,
) -> None:  # fmt: skip
    await create_topics(kafka.bootstrap, unique, partitions=2)
    await outbox(kafka.bootstrap, unique, [event(unique, 99, device="before")])
    to = f"mailto://127.0.0.1:{mail.port}?from=iot@example.com&to=ann@example.com"
    own: dict[str, object] = {"url": to, "devices": ["d*"]}
    await configure(
        database,
        **{unique: [own]},
        everybody=[{"url": f"json://127.0.0.1:{receiver.port}/alerts", "severity": "critical"}],
    )
    mail.answers = ["451 try again", "451 try again"]
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"channel_schemes": "mailto,json", "channel_private_hosts": "127.0.0.1"}
    events = [event(unique, n, device=f"d{n % 3}") for n in range(6)]
    events += [of_severity(event(unique, 6, device="d0"), Severity.CRITICAL), event(unique, 7, device="other")]
    events += [of_severity(event("somebody", 8, device="d0"), Severity.CRITICAL)]
    with program("notifier", tmp_path / "log", **made) as notifier:
        await notifier.logged("notifier_started")
        await outbox(kafka.bootstrap, unique, events)
        await until(lambda: len(mail.taken) == 7 and len(receiver.taken) == 2, 60)
        await until(lambda: figure(tmp_path / "log", r'iot_notifier_in_hand\{group="channels"\}') == 0, 20)
        assert notifier.stop() < 10
        notifier.start()  # nothing is sent again
        await outbox(kafka.bootstrap, unique, [event(unique, 9, device="d9")])
        await until(lambda: len(mail.taken) == 8, 60)
    assert mail.tries == 10
    sent = [re.findall(rf"alert {unique}-(\w+)-(\d+)", text_of(one))[0] for one in mail.taken]
    in_order = {device: [int(number) for name, number in sent if name == device] for device, _ in sent}
    assert in_order == {"d0": [0, 3, 6], "d1": [1, 4], "d2": [2, 5], "d9": [9]}
    assert {subject.partition(":")[0] for subject in mail.subjects} == {"FIRING warning", "FIRING critical"}
    assert [(one["title"], one["type"]) for one in receiver.taken] == [
        ("FIRING critical: temperature on d0", "failure")
    ] * 2


def text_of(mail: Message) -> str:
    """The first part of a mail."""
    body = mail.get_payload(0) if mail.is_multipart() else mail
    assert isinstance(body, Message)
    found = body.get_payload(decode=True)
    assert isinstance(found, bytes)
    return found.decode()


async def test_what_is_above_the_budget_comes_as_one_message(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, receiver: Receiver, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    await configure(database, **{unique: [{"url": f"json://127.0.0.1:{receiver.port}/alerts"}]})
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"channel_schemes": "json", "channel_private_hosts": "127.0.0.1", "alerts_per_minute": 3}
    with program("notifier", tmp_path / "log", **made) as notifier:
        await outbox(kafka.bootstrap, unique, [event(unique, n) for n in range(10)])
        await notifier.logged("channel_budget_spent", seconds=60)
        await until(lambda: len(receiver.taken) == 4, 90)
    titles = [one["title"] for one in receiver.taken]
    assert titles == ["FIRING warning: temperature on d1"] * 3 + [f"7 alert events of 1 devices of {unique}"]


async def test_a_storm_and_services_that_hang_keep_no_other_user_waiting(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, receiver: Receiver, tmp_path: Path
) -> None:
    """More channels than messages are sent at once; of what no lane has room for, the digest says how many it is."""
    await create_topics(kafka.bootstrap, unique, partitions=1)
    url, other = f"json://127.0.0.1:{receiver.port}", f"{unique}-other"
    hanging = [{"url": f"{url}/hang/{n}?rto=3600"} for n in range(10)]
    await configure(database, **{unique: hanging, other: [{"url": f"{url}/alerts"}]})
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"channel_schemes": "json", "channel_private_hosts": "127.0.0.1", "alerts_per_minute": 0}
    with program("notifier", tmp_path / "log", **made) as notifier:
        await outbox(kafka.bootstrap, unique, [event(unique, n) for n in range(600)])
        await notifier.logged("channel_storm", seconds=60)
        await outbox(kafka.bootstrap, unique, [event(other, 1)])
        await until(lambda: len(receiver.taken) == 1, 20)
        counted = figure(tmp_path / "log", r'iot_channel_messages_total\{result="counted"\}')
        receiver.answering.set()
        await until(lambda: sum(map(events_of, receiver.taken)) == 10 * 600 + 1, 90)
        await until(lambda: figure(tmp_path / "log", r'iot_notifier_in_hand\{group="channels"\}') == 0, 20)
    assert 10 * 98 <= counted <= 10 * 100


def events_of(message: Mapping[str, Any]) -> int:
    """How many events a message is about."""
    found = re.match(r"(\d+) alert events", message["title"])
    return int(found[1]) if found else 1


@pytest.mark.parametrize(
    ("schemes", "hosts", "path", "words"),
    [
        ("json", "", "alerts", "is at the private address 127.0.0.1: name it in IOT_CHANNEL_PRIVATE_HOSTS"),
        ("mailtos", "127.0.0.1", "alerts", "the scheme 'json' is not in IOT_CHANNEL_SCHEMES (mailtos)"),
        ("json", "127.0.0.1", "elsewhere", "is at the private address 127.0.0.2"),
    ],
)
async def test_where_channels_must_not_go_nothing_is_sent(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, receiver: Receiver, tmp_path: Path,
    schemes: str, hosts: str, path: str, words: str,
) -> None:  # fmt: skip
    """By scheme, by address, and by a redirect of a service that is allowed; the log says it once, and no password."""
    await create_topics(kafka.bootstrap, unique, partitions=1)
    url = f"json://ann:hunter2@127.0.0.1:{receiver.port}/{path}"
    await configure(database, **{unique: [{"url": url}]})
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"channel_schemes": schemes, "channel_private_hosts": hosts}
    with program("notifier", tmp_path / "log", **made) as notifier:
        await outbox(kafka.bootstrap, unique, [event(unique, n) for n in range(3)])
        await notifier.logged("channel_refused", seconds=60)
        await until(lambda: figure(tmp_path / "log", r'iot_channel_messages_total\{result="refused"\}') == 3, 20)
    said = (tmp_path / "log").read_text()
    assert said.count('"event": "channel_refused"') == 1
    assert (receiver.taken, receiver.lured) == ([], 0)
    assert words in said
    assert "hunter2" not in said
