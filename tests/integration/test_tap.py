"""`iot-stream tap` on real servers, with real programs before it: each topic, its options, and hostile payloads."""

import asyncio
import base64
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from app.local.servers.common import free_port
from tests.integration.bridges import publisher
from tests.integration.unreadable import send_unreadable
from tests.servers import KafkaServer, MqttServer
from tests.unit.inspect.test_text import harmless
from tests.workers import Site
from tools.command import ROOT, Done, iot_stream

pytestmark = pytest.mark.integration

RULE = {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}
ESCAPES = b"\x1b]0;owned\x07\x1b[2J\x9b31m"


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
    await made.prepare([RULE])
    return made


async def tap(site: Site, *words: str) -> Done:
    return await iot_stream(site.values, "tap", *words)


def objects(done: Done) -> list[dict[str, Any]]:
    """Each line of its output."""
    assert done.code == 0, done.error
    return [json.loads(line) for line in done.out.splitlines()]


def reading(number: int, **more: object) -> bytes:
    return json.dumps({"time": datetime.now(UTC).isoformat(), "sequence_id": number, **more}).encode()


async def send(site: Site, *records: tuple[str, bytes | None], key: bytes | None = None) -> None:
    """(MQTT topic, payload) of records on the input topic."""
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        for topic, payload in records:
            headers = [("mqtt_topic", topic.encode()), ("kind", b"telemetry"), ("raw", ESCAPES)]
            await producer.send_and_wait(site.settings.kafka_topic, payload, key=key, headers=headers, partition=0)


def telemetry(site: Site, device: str) -> str:
    return f"users/{site.unique}/devices/{device}/telemetry"


async def groups(site: Site) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        return {name for name, _ in await admin.list_consumer_groups()}
    finally:
        await admin.close()


class Live:
    """A tap that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        self._process, self._out = process, process.stdout

    async def line(self) -> dict[str, Any]:
        """The next line that the command prints."""
        found: dict[str, Any] = json.loads(await asyncio.wait_for(self._out.readline(), 60))
        return found

    async def ended(self) -> tuple[int, str]:
        """How it ended by itself, and the rest of what it said."""
        out, _ = await asyncio.wait_for(self._process.communicate(), 30)
        assert self._process.returncode is not None
        return self._process.returncode, out.decode()

    async def interrupted(self) -> tuple[int, str]:
        """The same, after Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        return await self.ended()


@asynccontextmanager
async def live(site: Site, *words: str) -> AsyncIterator[Live]:
    """A tap that has begun to listen."""
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "tap", *words, "--json", env={**os.environ, **environment}, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Live(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_the_input_with_its_past_and_without(site: Site) -> None:
    await send(
        site, (telemetry(site, "d1"), reading(1)), (telemetry(site, "d2"), b"{"), (telemetry(site, "d1"), ESCAPES)
    )
    found = objects(await tap(site, "in", "--from-beginning", "--until-end", "--json"))
    assert [(one["offset"], one["device_id"], one.get("reason")) for one in found] == [
        (0, "d1", None), (1, "d2", "bad_json"), (2, "d1", "bad_encoding")
    ]  # fmt: skip
    assert found[0]["payload"]["sequence_id"] == found[0]["sequence_id"] == 1
    assert base64.b64decode(found[2]["payload_base64"]) == ESCAPES
    assert base64.b64decode(found[0]["headers"][2]["value_base64"]) == ESCAPES
    assert objects(await tap(site, "--until-end", "--json")) == []
    assert len(objects(await tap(site, "--since", "1h", "--limit", "2", "--json"))) == 2
    assert [one["offset"] for one in objects(await tap(site, "--from-beginning", "--once", "--json"))] == [0]
    ends = ("--from-beginning", "--until-end", "--json")
    assert [one["offset"] for one in objects(await tap(site, "--reason", "bad_json", *ends))] == [1]
    assert [one["offset"] for one in objects(await tap(site, "--user", site.unique, "--device", "d[1]", *ends))] == [
        0,
        2,
    ]
    assert objects(await tap(site, "--kind", "status", *ends)) == []
    assert not any(site.unique in name for name in await groups(site))


async def test_what_a_person_sees_is_harmless(site: Site) -> None:
    await send(
        site,
        (telemetry(site, "d1"), reading(1, note="\x9b31m")),
        (telemetry(site, "d1"), ESCAPES),
        ("a", None),
        key=b"k",
    )
    plain = await tap(site, "--from-beginning", "--until-end")
    assert plain.code == 0, plain.error
    assert harmless(plain.out.replace("\n", ""))
    for words in (
        f"telemetry {site.unique}/d1 sequence_id 1",
        "|.]0;owned..[2J.3|",
        "route: unknown_topic",
        "no payload",
    ):
        assert words in plain.out
    assert plain.out.count("\n    headers mqtt_topic=users/") == 2


async def test_colours_are_for_terminals(site: Site) -> None:
    await send(site, (telemetry(site, "d1"), ESCAPES))
    primary, secondary = pty.openpty()
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "tap", "--from-beginning", "--once", cwd=ROOT, stdout=secondary,
        env={**os.environ, **environment, "TERM": "xterm-256color"},
    )  # fmt: skip
    try:
        assert await asyncio.wait_for(process.wait(), 30) == 0
        out = os.read(primary, 1 << 16).decode()
    finally:
        os.close(primary)
        os.close(secondary)
    assert "\x1b[36mtelemetry\x1b[0m" in out
    assert "\x1b]0" not in out
    assert "\x9b" not in out


async def test_dead_letters_and_alerts_of_a_real_worker(site: Site) -> None:
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, (telemetry(site, "d1"), reading(1, temperature=90)), (telemetry(site, "d2"), reading(2)[:-1]))
        await site.settled_input()
    (dead,) = objects(await tap(site, "dlq", "--from-beginning", "--until-end", "--json"))
    assert (dead["reason"], dead["user_id"], dead["device_id"]) == ("bad_json", site.unique, "d2")
    assert (dead["source"], dead["replay_count"]) == (
        {"topic": site.settings.kafka_topic, "partition": 0, "offset": 1}, 0
    )  # fmt: skip
    assert dead["payload_text"].startswith('{"time"')
    shown = await tap(site, "--topic", "dlq", "--reason", "bad_json", "--from-beginning", "--once")

    assert "    decode: bad_json Input data was truncated" in shown.out
    (alert,) = objects(await tap(site, "alerts", "--from-beginning", "--once", "--json"))
    assert (alert["payload"]["status"], alert["payload"]["message"], alert["device_id"]) == ("FIRING", "too hot", "d1")


@asynccontextmanager
async def sending(site: Site) -> AsyncIterator[None]:
    """A reading on Kafka's input topic and one to the MQTT broker, again and again: nobody says when a tap listens."""
    # The task is not cancelled: asyncio.wait_for of Python 3.11, in a client's call, may lose that.
    enough = asyncio.Event()

    async def send_on() -> None:
        numbers = itertools.count()
        async with publisher(site.mqtt, f"p-{site.unique}") as client:
            while not enough.is_set():
                number = next(numbers)
                await send(site, (telemetry(site, "d1"), reading(number)))
                await client.publish([(telemetry(site, "d1"), reading(number))], user_properties=[("note", "x\u202ey")])
                await asyncio.sleep(0.1)

    task = asyncio.create_task(send_on())
    try:
        yield
    finally:
        enough.set()
        await task


async def test_it_waits_for_what_comes_and_ends_quietly(site: Site) -> None:
    async with live(site, "in", "--user", site.unique) as first, live(site, "mqtt", "--user", site.unique) as second:
        async with sending(site):
            seen = await first.line()
            assert (seen["topic"], seen["kind"], seen["device_id"]) == (site.settings.kafka_topic, "telemetry", "d1")
            seen = await second.line()
            assert (seen["topic"], seen["qos"], seen["retained"]) == (telemetry(site, "d1"), 0, False)
            assert seen["headers"] == [{"name": "note", "value": "x\u202ey"}]
            assert seen["payload"]["sequence_id"] == seen["sequence_id"]
        for running in (first, second):
            code, out = await running.interrupted()
            assert code == 130
            assert [line for line in out.splitlines() if not line.startswith("{")] == []


async def test_a_reader_that_has_enough_ends_it(site: Site) -> None:
    await send(site, *[(telemetry(site, "d1"), reading(n)) for n in range(50)])
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    command = f"{sys.executable} -m app tap --from-beginning --json | head -n 1; echo ${{PIPESTATUS[0]}}"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            env={**os.environ, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    task = asyncio.ensure_future(asyncio.to_thread(run))
    while not task.done():  # a pipe is seen to be broken when the next record is written
        await send(site, (telemetry(site, "d1"), reading(99)))
        await asyncio.sleep(0.2)
    done = await task
    assert done.stderr == ""
    assert [json.loads(line) for line in done.stdout.splitlines()][1] == 0


async def test_what_is_lost_on_the_way_is_said_in_one_line(site: Site) -> None:
    nowhere = {**site.values, "kafka_broker": f"127.0.0.1:{free_port()}", "mqtt_port": free_port()}
    for topic, words in (("in", "Kafka at 127.0.0.1"), ("mqtt", "no way into the MQTT broker at 127.0.0.1")):
        done = await iot_stream(nowhere, "tap", topic)
        assert (done.code, done.out, done.error.count("\n")) == (1, "", 1), done.error
        assert done.error.startswith("iot-stream: ")
        assert words in done.error
    stranger = await iot_stream({**site.values, "mqtt_username": "stranger"}, "tap", "mqtt")
    assert (stranger.code, "refuses stranger" in stranger.error) == (1, True), stranger.error
    missing = await iot_stream({**site.values, "kafka_dlq_topic": f"{site.unique}-none"}, "tap", "dlq")
    assert (missing.code, f"there is no topic {site.unique}-none" in missing.error) == (1, True), missing.error


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("all",), "all"),
        (("in", "--topic", "dlq"), "give one topic: in or dlq"),
        (("--reason", "bad_jsn"), "bad_json"),
        (("--kind", "telemetri"), "choose from telemetry"),
        (("--since", "soon"), "is not a duration"),
        (("--since", "1h", "--from-beginning"), "--since or --from-beginning"),
        (("mqtt", "--since", "1h"), "MQTT has no past"),
        (("mqtt", "--user", "a/+"), "one level of an MQTT topic"),
        (("--limit", "0"), "greater than or equal to 1"),
    ],
)
async def test_wrong_usage(words: tuple[str, ...], why: str) -> None:
    done = await iot_stream({}, "tap", *words)
    assert (done.code, done.out) == (2, "")
    assert why in " ".join(done.error.replace("│", " ").split())


async def test_a_flood_takes_no_memory(site: Site) -> None:
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=20, max_batch_size=1 << 18) as producer:
        pad = "x" * 10_000
        for number in range(6_000):  # 60 MB
            await producer.send(site.settings.kafka_topic, reading(number, pad=pad), partition=number % 12)
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    code = "import sys; sys.argv = ['iot-stream', 'tap', '--from-beginning', '--until-end', '--json']\n"
    code += "from app.cli.main import main\ntry: main()\nexcept SystemExit as e: end = e.code\n"
    # Not ru_maxrss: that begins at what the process had that started this one.
    code += "most = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    code += "print(most, end or 0, file=sys.stderr)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, **environment}, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    await asyncio.sleep(3)  # nobody reads
    began, lines = time.monotonic(), 0
    while await process.stdout.readline():
        lines += 1
        assert time.monotonic() - began < 60
    _, error = await process.communicate()
    kilobytes, ended = map(int, error.split())
    assert (lines, ended) == (6_000, 0)
    assert kilobytes < 200_000, "60 MB of records must not be held at once"


async def test_the_name_of_a_header_that_is_not_utf8_is_shown_with_escapes(site: Site) -> None:
    topic = telemetry(site, "d1")
    await send(site, *[(topic, reading(number)) for number in range(3)])
    await send_unreadable(site.kafka, site.settings.kafka_topic)
    await send(site, (topic, reading(5)))
    found = objects(await tap(site, "--from-beginning", "--until-end", "--json"))
    of_it = [one for one in found if one["partition"] == 0 and one["offset"] == 3]
    assert [one["headers"] for one in of_it] == [[{"name": "\\xff", "value": "1"}]]
    assert len(found) == 5


async def test_nothing_is_committed(site: Site) -> None:
    await send(site, (telemetry(site, "d1"), reading(1)))
    tp = TopicPartition(site.settings.kafka_topic, 0)
    options = {"group_id": site.settings.group_id, "enable_auto_commit": False}
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, **options) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: 0})
    assert len(objects(await tap(site, "--from-beginning", "--until-end", "--json"))) == 1
    assert (await site.committed())[0] == 0
