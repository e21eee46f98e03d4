"""The webhook of the notifier, on a real Kafka and a real receiver: signed, in order, tried again, refused."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.errors import TransientError
from app.notify.webhook_client import WebhookClient
from tests.integration.bridges import create_topics, figure, program, until
from tests.integration.test_notifier import event, listening, outbox, settings
from tests.servers import KafkaServer, MqttServer

pytestmark = pytest.mark.integration
KEY = "a key of the test"


class Receiver:
    """Takes what is posted; `answers` are the statuses it gives first to an id, then 204."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = {}
        self.taken: list[dict[str, Any]] = []
        self.tries: Counter[str] = Counter()
        self.wrong: list[str] = []
        app = web.Application()
        app.router.add_post("/alerts", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self.url = ""

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/alerts"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        signed = request.headers["X-Iot-Timestamp"].encode() + b"." + body
        found = json.loads(body)
        name = found["alert_id"]
        expected = {
            "X-Iot-Signature": "sha256=" + hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest(),
            "Idempotency-Key": f"{name}-{found['status']}-0",
            "Content-Type": "application/json",
        }
        self.wrong += [header for header, value in expected.items() if request.headers[header] != value]
        self.tries[name] += 1
        if waiting := self.answers.get(name):
            return web.Response(status=waiting.pop(0), text="not now")
        self.taken.append(found)
        return web.Response(status=204)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.start()
    yield made
    await made.stop()


async def test_the_webhook_gets_every_alert_in_order(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, receiver: Receiver, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=2)
    events = [event(unique, n, device=f"d{n % 3}") for n in range(30)]
    names = [f"{unique}-d{n % 3}-{n}" for n in range(30)]
    receiver.answers = {names[3]: [503, 429, 302], names[4]: [422], names[5]: [401]}
    secret = tmp_path / "key"
    secret.write_text(KEY + "\n")
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"webhook_url": receiver.url, "webhook_secret_file": secret}
    async with listening(mosquitto, unique) as heard:
        with program("notifier", tmp_path / "log", **made) as notifier:
            await outbox(kafka.bootstrap, unique, events)
            await until(lambda: len(receiver.taken) == 29, 40)
            await notifier.logged("webhook_refused")
            await until(lambda: len(heard) == 30)
            log = tmp_path / "log"
            await until(lambda: results(log) == [29, 1, 4])
            assert figure(log, 'iot_notifier_taken_total{group="webhook"}') == 30
            assert notifier.stop() < 10
            notifier.start()  # what was taken is not posted again
            await outbox(kafka.bootstrap, unique, [event(unique, 30)])
            await until(lambda: len(receiver.taken) == 30)
            assert notifier.stop() < 10
    assert receiver.wrong == []
    tries = {names[3]: 4, names[5]: 2}
    assert receiver.tries == {name: tries.get(name, 1) for name in [*names, f"{unique}-d1-30"]}
    for device in range(3):
        wanted = [name for n, name in enumerate(names) if n % 3 == device and n != 4]
        wanted += [f"{unique}-d1-30"] if device == 1 else []
        assert [one["alert_id"] for one in receiver.taken if one["device_id"] == f"d{device}"] == wanted
    first = next(one for one in receiver.taken if one["alert_id"] == names[0])
    assert first == json.loads(events[0][1])


def results(log: Path) -> list[float]:
    """The posts that were taken, refused, and failed, as the notifier counts them once it has their answers."""
    return [figure(log, f'iot_webhook_seconds_count{{result="{one}"}}') for one in ("taken", "refused", "failed")]


def waits(log: Path, name: str, count: int) -> bool:
    """Whether the notifier says that so many alerts wait for the webhook."""
    return figure(log, f'iot_notifier_{name}{{group="webhook"}}') == count


async def test_a_receiver_that_is_away_keeps_no_mqtt_message_waiting(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, receiver: Receiver, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    await receiver.stop()
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"webhook_url": receiver.url, "webhook_secret": KEY}
    async with listening(mosquitto, unique) as heard:
        with program("notifier", tmp_path / "log", **made) as notifier:
            await outbox(kafka.bootstrap, unique, [event(unique, n) for n in range(3)])
            await until(lambda: len(heard) == 3)
            await notifier.logged("webhook_retry", times=2)
            for name in ("in_hand", "consumer_lag"):
                await until(partial(waits, tmp_path / "log", name, 3))
            await until(lambda: figure(tmp_path / "log", 'iot_notifier_in_hand{group="notifier"}') == 0)
            assert notifier.stop() < 10, "stopped, it does not wait for the receiver"
    assert KEY not in (tmp_path / "log").read_text()


async def test_a_secret_with_whsec_signs_by_standard_webhooks() -> None:
    """As a receiver verifies it: of what came in over the wire."""
    key, came = bytes(range(32)), list[bool]()

    async def answer(request: web.Request) -> web.Response:
        name, stamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        digest = hmac.new(key, f"{name}.{stamp}.".encode() + await request.read(), hashlib.sha256).digest()
        signed = request.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
        came.append(signed and name == request.headers["Idempotency-Key"] and "X-Iot-Signature" not in request.headers)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/alerts", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    secret = "whsec_" + base64.b64encode(key).decode()
    hook = WebhookClient(f"http://127.0.0.1:{runner.addresses[0][1]}/alerts", secret, 5.0)
    try:
        await hook.post("id-FIRING-0", '{"message":"zu heiß"}'.encode())
    finally:
        await hook.close()
        await runner.cleanup()
    assert came == [True]


async def test_a_webhook_that_speaks_no_http_is_reported_without_its_url() -> None:
    """The errors of the HTTP client repeat the URL, and that of a webhook has a token in it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        hook = WebhookClient(f"http://127.0.0.1:{port}/T0/token-of-the-hook", None, 5.0)
        with pytest.raises(TransientError, match="the webhook does not answer: ") as raised:
            await hook.post("name", b"{}")
        await hook.close()
    assert "token-of-the-hook" not in str(raised.value)
    assert raised.value.__suppress_context__
