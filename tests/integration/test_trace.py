"""`iot-stream trace` on real servers with a real worker: each of its answers; and spans, from an HTTP server of the
test that speaks Tempo's API, as Tempo itself is none of the servers here."""

import asyncio
import json
import os
import pty
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from app.kafka.messages import key_partition
from app.local.servers.common import free_port
from tests.integration.unreadable import send_unreadable
from tests.servers import KafkaServer, MqttServer
from tests.unit.inspect.test_spans import BATCHES, TRACE
from tests.unit.inspect.test_text import harmless
from tests.workers import Site
from tools.command import ROOT, Done, iot_stream

pytestmark = pytest.mark.integration

PARENT = f"00-{TRACE}-b7ad6b7169203331-01".encode()


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
    await made.prepare([])
    return made


def payload(number: object, **more: object) -> bytes:
    return json.dumps({"time": datetime.now(UTC).isoformat(), "sequence_id": number, **more}).encode()


async def send(site: Site, topic: str, value: bytes | None, key: bytes, *more: tuple[str, bytes], **place: Any) -> int:
    """A record of the input topic; its offset."""
    headers = [("mqtt_topic", topic.encode()), ("kind", b"telemetry"), *more]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        sent = await producer.send_and_wait(site.settings.kafka_topic, value, key=key, headers=headers, **place)
    return int(sent.offset)


async def reads(site: Site, number: object, *more: tuple[str, bytes], **fields: object) -> int:
    """A reading of device d1."""
    topic = f"users/{site.unique}/devices/d1/telemetry"
    return await send(site, topic, payload(number, **fields), f"{site.unique}/d1".encode(), *more)


async def trace(site: Site, *words: str, **settings: object) -> Done:
    return await iot_stream({**site.values, **settings}, "trace", *words)


def of(site: Site, number: int, device: str = "d1", user: str | None = None) -> tuple[str, ...]:
    return "--user", user or site.unique, "--device", device, "--sequence", str(number)


async def asked(site: Site, code: int, *words: str, **settings: object) -> dict[str, Any]:
    """The answer of the command as JSON."""
    done = await trace(site, *words, "--json", **settings)
    assert done.code == code, done.error + done.out
    assert done.error == ""
    found: dict[str, Any] = json.loads(done.out)
    return found


async def test_a_message_from_the_log_to_its_row(site: Site) -> None:
    nothing = await asked(site, 1, *of(site, 1))
    assert (nothing["state"], nothing["records"], nothing["search"]["complete"]) == ("not_seen", [], True)
    await reads(site, 1)
    offset = await reads(site, 2, ("traceparent", PARENT), ("gateway", b"http"), temperature=21.5)
    waiting = await asked(site, 0, *of(site, 2))
    (record,) = waiting["records"]
    assert (waiting["state"], record["ahead"], record["row"]) == ("waiting", 1, None)
    partition = key_partition(f"{site.unique}/d1".encode(), site.settings.kafka_partitions)
    assert (record["topic"], record["partition"], record["offset"]) == (site.settings.kafka_topic, partition, offset)
    assert (record["gateway"], record["trace_id"]) == ("http", TRACE)
    assert 0 <= record["age_seconds"] < 60
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
        stored = await asked(site, 0, *of(site, 2))
        (record,) = stored["records"]
        assert (stored["state"], record["state"], record["row"]["temperature"]) == ("stored", "stored", 21.5)
        await worker_is_left_alone(site)
    again = await asked(site, 0, "--trace-id", TRACE)
    assert (again["state"], again["device_id"], again["sequence_id"]) == ("stored", "d1", 2)
    assert (await asked(site, 0, "--trace-id", PARENT.decode()))["records"][0]["offset"] == offset
    await reads(site, 3)
    assert (await asked(site, 0, *of(site, 3)))["records"][0]["ahead"] == 0
    await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id = 2")
    gone = await asked(site, 1, *of(site, 2))
    assert (gone["state"], gone["records"][0]["offset"]) == ("unaccounted", offset)


async def worker_is_left_alone(site: Site) -> None:
    """The trace joins no group and commits nothing: what the worker has is its own."""
    before = await site.committed()
    await asked(site, 0, *of(site, 1))
    assert await site.committed() == before


async def test_what_a_worker_refused(site: Site) -> None:
    refused = await reads(site, 5, ("traceparent", PARENT), battery=90.5)
    assert "a worker will refuse it: battery" in (await asked(site, 0, *of(site, 5)))["records"][0]["why"]
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
    for words in (of(site, 5), ("--trace-id", TRACE)):
        found = await asked(site, 0, *words)
        letter = found["records"][0]["dead_letter"]
        assert (found["state"], letter["reason"], letter["stage"]) == ("dead_lettered", "wrong_type", "validate")
        assert (letter["topic"], letter["source"]["offset"]) == (site.settings.kafka_dlq_topic, refused)
        assert "battery" in letter["error"]
    # Sent again as it should have been.
    await reads(site, 5, ("traceparent", PARENT), battery=90)
    newest = await asked(site, 0, *of(site, 5))
    assert [one["state"] for one in newest["records"]] == ["waiting", "dead_lettered"]


async def test_devices_of_nodes_other_keys_and_other_kinds(site: Site) -> None:
    node = f"{site.unique}-n"
    await send(site, f"iot/{node}/s1/telemetry", b'{"value":1,"sequence_id":9}', node.encode())
    found = await asked(site, 0, *of(site, 9, "s1", node))
    assert (found["state"], found["records"][0]["kind"]) == ("waiting", "telemetry")
    expected = {key_partition(key.encode(), 12) for key in (f"{site.unique}/d1", site.unique)}
    elsewhere = next(number for number in range(12) if number not in expected)
    topic = f"users/{site.unique}/devices/d1/telemetry"
    await send(site, topic, payload(11), b"k", partition=elsewhere)
    assert (await asked(site, 1, *of(site, 11)))["state"] == "not_seen"
    assert (await asked(site, 0, *of(site, 11), "--all-partitions"))["records"][0]["partition"] == elsewhere
    await send(site, f"iot/{node}/status", b"online", node.encode(), ("traceparent", PARENT))
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
    carried = await asked(site, 0, "--trace-id", TRACE)
    assert (carried["state"], "carried out" in carried["records"][0]["why"]) == ("dropped", True)


async def test_the_same_message_twice_and_rows_without_a_record(site: Site) -> None:
    topic, key, value = f"users/{site.unique}/devices/d1/telemetry", f"{site.unique}/d1".encode(), payload(4)
    for _ in range(2):
        await send(site, topic, value, key)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
    found = await asked(site, 0, *of(site, 4))
    assert [one["state"] for one in found["records"]] == ["stored", "stored"]
    assert found["records"][0]["offset"] > found["records"][1]["offset"]
    await site.fetch(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id) VALUES (now(), $1, 'd9', 77)", site.unique
    )
    alone = await asked(site, 0, *of(site, 77, "d9"))
    assert (alone["state"], alone["records"], alone["rows"][0]["sequence_id"]) == ("stored", [], 77)


async def test_only_what_is_asked_for_is_read(site: Site) -> None:
    old = int(time.time() * 1000) - 7_200_000
    topic, key = f"users/{site.unique}/devices/d1/telemetry", f"{site.unique}/d1".encode()
    await send(site, topic, payload(1), key, timestamp_ms=old)
    assert (await asked(site, 1, *of(site, 1)))["search"]["records_read"] == 0
    assert (await asked(site, 0, *of(site, 1), "--since", "3h"))["state"] == "waiting"


async def test_a_long_log_is_read_back_and_time_is_limited(site: Site) -> None:
    topic, key = f"users/{site.unique}/devices/d1/telemetry", f"{site.unique}/d1".encode()
    headers = [("mqtt_topic", topic.encode())]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=20) as producer:
        for number in range(30_000):
            await producer.send(site.settings.kafka_topic, payload(number), key=key, headers=headers)
    newest = await asked(site, 0, *of(site, 29_999))
    assert newest["search"]["records_read"] <= 2_000
    oldest = await asked(site, 0, *of(site, 0))
    assert (oldest["records"][0]["offset"], oldest["search"]["records_read"]) == (0, 30_000)
    short = await trace(site, *of(site, 0), "--timeout", "0.1")
    assert short.code in (0, 1)
    if short.code:
        assert "give a longer --timeout" in short.error


@asynccontextmanager
async def tempo(traces: dict[str, object], found: list[str], status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """A server with Tempo's API: its address, and the queries it was asked."""
    asked: list[str] = []

    async def trace_of(request: web.Request) -> web.Response:
        answer = traces.get(request.match_info["id"])
        return web.json_response(answer, status=status) if answer else web.Response(status=404)

    async def search(request: web.Request) -> web.Response:
        asked.append(request.query["q"])
        if "link:traceID" in asked[-1]:
            return web.Response(status=400, text="unknown scope link")
        return web.json_response({"traces": [{"traceID": one.lstrip("0")} for one in found]}, status=status)

    app = web.Application()
    app.add_routes([web.get("/api/traces/{id}", trace_of), web.get("/api/search", search)])
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        await runner.cleanup()


async def test_spans_come_from_tempo(site: Site) -> None:
    await reads(site, 1, ("traceparent", PARENT))
    await reads(site, 2)
    async with tempo({TRACE: {"batches": BATCHES}}, [TRACE]) as (url, queries):
        found = await asked(site, 0, *of(site, 1), tempo_url=url)
        assert [one["name"] for one in found["spans"]][:2] == ["mqtt_publish", "bridge"]
        shown = await trace(site, *of(site, 1), tempo_url=url)
        assert "\n  └─ bridge 400 us +1 ms bridge\n" in shown.out
        assert not any("sequence_id" in one for one in queries)
        by_attributes = await asked(site, 0, *of(site, 2), tempo_url=url)
        assert len(by_attributes["spans"]) == 5
        assert f'{{ .user_id = "{site.unique}" && .device_id = "d1" && .sequence_id = 2 }}' in queries
    async with tempo({}, []) as (url, _):
        assert (await asked(site, 0, *of(site, 2), tempo_url=url))["spans"] == []
        assert "none in Tempo" in (await trace(site, *of(site, 2), tempo_url=url)).out


async def test_a_tempo_that_fails_is_a_note(site: Site) -> None:
    await reads(site, 1, ("traceparent", PARENT))
    async with tempo({TRACE: {"batches": 5}}, []) as (url, _):
        assert "cannot be read" in (await asked(site, 0, *of(site, 1), tempo_url=url))["notes"][0]
    async with tempo({TRACE: {"batches": []}}, [], status=500) as (url, _):
        assert "Tempo answers 500" in (await asked(site, 0, *of(site, 1), tempo_url=url))["notes"][0]
    nobody = f"http://name:secret@127.0.0.1:{free_port()}"
    shown = await trace(site, *of(site, 1), tempo_url=nobody)
    assert (shown.code, shown.error.count("\n")) == (0, 1)
    assert "does not answer" in shown.error
    assert "secret" not in shown.error


async def test_what_a_person_sees(site: Site) -> None:
    await reads(site, 1, ("traceparent", PARENT), ("gateway", b"\x1b[2Jx"), note="\x9b31m")
    done = await trace(site, *of(site, 1))
    first, record, state, *_ = done.out.splitlines()
    assert first == f"waiting: {site.unique}/d1, sequence_id 1, trace {TRACE}"
    assert record.startswith(f"record      {site.settings.kafka_topic}-")
    assert " ago, by \\x1b[2Jx, trace " in record
    assert state.strip().startswith("waiting: no worker has committed anything")
    assert harmless(done.out.replace("\n", ""))
    missing = await trace(site, *of(site, 2))
    assert missing.out == f"not seen: {site.unique}/d1, sequence_id 2\n"
    assert "see --since and --all-partitions" in missing.error


async def test_a_bar_on_a_terminal(site: Site) -> None:
    await reads(site, 1)
    primary, secondary = pty.openpty()
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "trace", *of(site, 1), "--json", cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        stderr=secondary, env={**os.environ, **environment, "TERM": "xterm-256color"},
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        said = os.read(primary, 1 << 16).decode()
    finally:
        os.close(primary)
        os.close(secondary)
    assert process.returncode == 0
    assert json.loads(out)["state"] == "waiting"
    assert "reading Kafka" in said


async def test_it_finds_what_lies_behind_a_header_whose_name_is_not_utf8(site: Site) -> None:
    topic = f"users/{site.unique}/devices/d1/telemetry"
    await send(site, topic, payload(1), b"k", partition=0)
    await send_unreadable(site.kafka, site.settings.kafka_topic)
    await send(site, topic, payload(2), b"k", partition=0)
    for number in (1, 2):
        assert (await trace(site, *of(site, number), "--all-partitions")).out.startswith("waiting: ")


async def test_servers_that_are_away(site: Site) -> None:
    await reads(site, 1)
    away = await trace(site, *of(site, 1), kafka_broker=f"127.0.0.1:{free_port()}")
    assert (away.code, away.out, away.error.count("\n")) == (1, "", 1), away.error
    assert away.error.startswith("iot-stream: cannot reach Kafka at ")
    # Kafka alone says that it waits; whether it is stored, it says, is not known.
    nowhere = f"postgresql://iot@127.0.0.1:{free_port()}/iot"
    done = await trace(site, *of(site, 1), "--json", database_url=nowhere)
    found = json.loads(done.out)
    assert (done.code, done.error, found["state"]) == (0, "", "waiting")
    assert found["notes"][0].startswith("whether its row is there is not known")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "give --user, --device and --sequence, or --trace-id"),
        (("--user", "u", "--device", "d"), "give --user"),
        (("--trace-id", "xyz"), "32 hex digits"),
        (("--trace-id", TRACE, "--since", "1"), "not a duration"),
        (("--user", "u", "--device", "d", "--sequence", "one"), "integer"),
        (("--trace-id", TRACE, "--timeout", "0"), "greater than or equal to 0.1"),
    ],
)
async def test_wrong_usage(words: tuple[str, ...], why: str) -> None:
    done = await iot_stream({}, "trace", *words)
    assert (done.code, done.out) == (2, "")
    assert why in " ".join(done.error.replace("│", " ").split())


async def test_wrong_settings() -> None:
    done = await iot_stream({"tempo_url": "tempo"}, "trace", "--trace-id", TRACE)
    assert (done.code, "IOT_TEMPO_URL" in done.error) == (2, True)
