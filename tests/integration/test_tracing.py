"""One trace from the device to the row and to the message that reports its alert, on real servers and programs.

What their programs export goes to a real OTLP receiver; what is asked of a trace is asked of what came in there.
"""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import paho.mqtt.client as paho
import psutil
import pytest
from aiokafka import AIOKafkaProducer
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from prometheus_client.parser import text_string_to_metric_families

from app.local.fleet.devices import USERS, SimulatedDevice
from app.local.servers.mosquitto import Mosquitto
from app.runtime.tracing.context import context_of, parse
from app.runtime.tracing.start import start_tracing
from tests.integration.bridges import create_topics, program, publisher, read_topic
from tests.integration.test_bridge import settings
from tests.otlp import Mode, OtlpReceiver, ReceivedSpan, closed_endpoint, receiver
from tests.servers import KafkaServer, MqttServer
from tests.workers import COMMANDS, Running, Site, until
from tools.audit import header, read

pytestmark = pytest.mark.integration

USER, DEVICE = USERS[0], "sensor-01"
ALWAYS = {"key": "temperature", "operator": ">", "threshold": -100, "message": "measured"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NOT_SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"


@pytest.fixture
def otlp(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """A collector, to which all programs that are started from now on export."""
    with receiver() as made:
        export_to(monkeypatch, made.environment())
        yield made


@pytest.fixture
def broker(server_dir: Path) -> Iterator[Mosquitto]:
    """An MQTT broker with the accounts of the simulated fleet."""
    made = Mosquitto(server_dir, accounts=USERS)
    made.start()
    try:
        made.wait_ready()
        yield made
    finally:
        made.stop()


def export_to(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


async def site_of(
    kafka: KafkaServer, database: str, mqtt: MqttServer, unique: str, directory: Path, **more: object
) -> Site:
    """Topics and settings of this test alone; nothing is sampled but what asks for it."""
    made = Site(kafka.bootstrap, database, mqtt, unique, directory, {"kafka_partitions": 2, "trace_ratio": 0, **more})
    await made.prepare([])
    return made


@pytest.fixture
async def site(kafka: KafkaServer, database: str, broker: Mosquitto, unique: str, tmp_path: Path) -> Site:
    """With a rule of the simulated user that each reading fires."""
    made = await site_of(kafka, database, broker, unique, tmp_path)
    await made.fetch("INSERT INTO user_configs (user_id, rules) VALUES ($1, $2)", USER, json.dumps([ALWAYS]))
    return made


async def test_one_trace_leads_from_the_device_to_its_row_and_its_alert(
    site: Site, broker: Mosquitto, otlp: OtlpReceiver
) -> None:
    async with alerts_heard(broker) as heard:
        with ExitStack() as stack:
            programs = [stack.enter_context(site.program(name)) for name in ("worker", "notifier", "bridge")]
            for program in programs:
                await program.ready()
            await the_fleet_publishes(site, broker)
            await until(lambda: stored(site), 20, lambda: "the reading is not stored")
            await until(lambda: at_least(heard, 1), 20, lambda: "no alert was heard")
            await site.settled()
            for program in programs:
                assert program.stop() < 10, "what is left is exported in time"
    published, bridge, process = one(otlp, "mqtt_publish"), one(otlp, "bridge"), one(otlp, "worker_process")
    flush, store = one(otlp, "batch_flush"), one(otlp, "store_telemetry_batch")
    alert, notify = one(otlp, "alert_publish"), one(otlp, "notify")
    assert published.parent_id == ""
    assert bridge.is_child_of(published)
    assert process.is_child_of(bridge)
    assert flush.links_to(process)
    assert process.links_to(flush)
    assert store.is_child_of(flush)
    assert alert.is_child_of(process)
    assert notify.is_child_of(alert)
    assert {span.trace_id for span in (bridge, process, alert, notify)} == {published.trace_id}
    assert otlp.dangling() == []
    for span in (published, bridge, process):
        assert (span.attributes["user_id"], span.attributes["device_id"]) == (USER, DEVICE)
        assert span.attributes["sequence_id"] == 2
    assert [span.resource["service.name"] for span in (published, bridge, notify)] == [
        "iot-stream-fleet", "iot-stream-bridge", "iot-stream-notifier",
    ]  # fmt: skip
    assert {span.resource["service.namespace"] for span in (bridge, process, notify)} == {site.unique}
    assert process.attributes["iot.outcome"] == "stored"
    assert [(span.name, span.status_message) for span in otlp.spans if span.status == "ERROR"] == []
    in_order([published, bridge, process, notify])
    await the_context_went_with_the_message(site, bridge, heard, notify)


async def the_context_went_with_the_message(
    site: Site, bridge: ReceivedSpan, heard: Sequence[paho.MQTTMessage], notify: ReceivedSpan
) -> None:
    """On Kafka as a header, to the user as a user property and in the event; the payload as it was published."""
    (record,) = await read(site, site.settings.kafka_topic)
    assert is_of(header(record, "traceparent"), bridge)
    assert b"traceparent" not in record.value
    (message,) = heard
    (name, value), *more = getattr(message.properties, "UserProperty", [("", "")])
    assert (name, more) == ("traceparent", [])
    assert is_of(value.encode(), notify)
    assert is_of(json.loads(message.payload)["traceparent"].encode(), bridge), "the event's own is its message's"


def is_of(traceparent: bytes | None, span: ReceivedSpan) -> bool:
    """Whether it names that span, as sampled."""
    context = parse(traceparent or b"")
    return context is not None and context.sampled and context[:2] == (int(span.trace_id, 16), int(span.span_id, 16))


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_kill_9_of_the_worker_on_the_way_stores_once_and_the_trace_shows_it(
    site: Site, broker: Mosquitto, otlp: OtlpReceiver, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies after it has decoded the batch and before any row of the batch is stored."""
    export_to(monkeypatch, otlp.environment(protocol))
    orders = site.directory / "die-after"
    monkeypatch.setitem(COMMANDS, "dying", ["tests.integration.dying_worker"])
    monkeypatch.setenv("DIE_AFTER", str(orders))
    with site.program("dying", "worker") as worker, site.program("bridge") as bridge:
        await worker.ready()
        await bridge.ready()
        orders.write_text("process")
        await the_fleet_publishes(site, broker)
        await until(lambda: dead(worker), 20, lambda: "the worker does not die")
        assert not await stored(site)
        worker.start()
        await until(lambda: stored(site), 40, lambda: "the reading is not stored")
        await site.settled_input()
        for program in (worker, bridge):
            assert program.stop() < 10
    assert len(await site.fetch("SELECT FROM raw_telemetry")) == 1
    published, bridged, process = one(otlp, "mqtt_publish"), one(otlp, "bridge"), one(otlp, "worker_process")
    assert bridged.is_child_of(published)
    assert process.is_child_of(bridged)
    assert one(otlp, "store_telemetry_batch").is_child_of(one(otlp, "batch_flush"))
    assert otlp.dangling() == []


@pytest.mark.parametrize("trouble", [Mode.HANG, Mode.FAIL, "refuse"])
async def test_a_collector_in_trouble_holds_up_nothing(
    kafka: KafkaServer,
    database: str,
    mosquitto: MqttServer,
    unique: str,
    tmp_path: Path,
    otlp: OtlpReceiver,
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every message is traced; spans kept without a bound would be 40 MB in the bridge alone."""
    if trouble == "refuse":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", closed_endpoint())
    else:
        otlp.mode = Mode(trouble)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1000")
    site = await site_of(
        kafka, database, mosquitto, unique, tmp_path, trace_ratio=1, trace_incoming_per_second=1_000_000
    )
    with site.program("worker") as worker, site.program("bridge") as bridge:
        await worker.ready()
        await bridge.ready()
        await telemetry(site, range(5_000))
        before = {program: memory(program) for program in (worker, bridge)}
        began = time.monotonic()
        await telemetry(site, range(5_000, 25_000))
        seconds = time.monotonic() - began
        grown = {program.name: memory(program) - before[program] for program in before}
        dropped = {p.name: await figure(p, "iot_trace_spans_dropped_total") for p in (worker, bridge)}
        print(f"{trouble}: 20,000 in {seconds:.1f} s, grown {grown}, dropped {dropped}")
        assert grown["bridge"] < 20 << 20
        assert grown["worker"] < 60 << 20
        assert dropped["bridge"] > 10_000
        assert dropped["worker"] > 10_000
        for program in (worker, bridge):
            assert program.stop() < 12
    assert len(await site.fetch("SELECT FROM raw_telemetry")) == 25_000
    assert otlp.spans == []


# (what, user properties, fields of the payload beside those of a good reading, contexts counted as invalid)
# A property with a control character Mosquitto refuses itself: tests/unit/gateways/mqtt/test_records.py has some.
HOSTILE: list[tuple[str, list[tuple[str, str]], dict[str, object], int]] = [
    ("too short", [("traceparent", PARENT[:-1])], {}, 1),
    ("too long", [("traceparent", PARENT + "-x" * 30_000)], {}, 1),
    ("all zeros", [("traceparent", f"00-{'0' * 32}-{'0' * 16}-01")], {}, 1),
    ("version ff", [("traceparent", "ff" + PARENT[2:])], {}, 1),
    ("not ASCII", [("traceparent", PARENT.replace("4bf", "٤bf"))], {}, 1),
    ("upper case is read", [("traceparent", PARENT.upper())], {}, 0),
    ("empty", [("traceparent", "")], {}, 1),
    ("a state of 10 KB", [("traceparent", PARENT), ("tracestate", "a=" + "b" * 10_238)], {}, 1),
    ("a state that is none", [("traceparent", PARENT), ("tracestate", "ü=1")], {}, 1),
    ("a state the SDK cannot read", [("traceparent", PARENT), ("tracestate", "=;,=" * 100)], {}, 0),
    ("baggage of 10 KB", [("baggage", "a" * 10_240)], {}, 1),
    ("twice", [("traceparent", PARENT), ("traceparent", NOT_SAMPLED)], {}, 1),
    ("500 times", [("traceparent", PARENT)] * 500, {}, 1),
    ("NUL in the payload", [], {"traceparent": PARENT[:-1] + "\0"}, 1),
    ("a number in the payload", [], {"traceparent": 5}, 1),
    ("a list in the payload", [], {"traceparent": [PARENT]}, 1),
    ("a state of a wrong type", [], {"traceparent": PARENT, "tracestate": {"a": 1}}, 1),
    ("null in the payload", [], {"traceparent": None}, 0),
    ("not sampled", [("traceparent", NOT_SAMPLED)], {}, 0),
]


async def test_hostile_contexts_are_ignored_and_counted_and_their_messages_stored(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path, otlp: OtlpReceiver
) -> None:
    site = await site_of(kafka, database, mosquitto, unique, tmp_path)
    with site.program("worker") as worker, site.program("bridge") as bridge:
        await worker.ready()
        await bridge.ready()
        async with publisher(mosquitto, unique) as client:
            for number, (_, properties, fields, _) in enumerate(HOSTILE):
                message = (f"users/{unique}/devices/d1/telemetry", reading(number, **fields))
                await client.publish([message], user_properties=properties)
        await until(lambda: stored(site, len(HOSTILE) - 1), 20, lambda: "not all are stored")
        await site.settled_input()
        assert await figure(bridge, "iot_trace_contexts_invalid_total") == sum(count for *_, count in HOSTILE)
        assert not [line for line in bridge.log.read_text().splitlines() if "Traceback" in line]
        for program in (worker, bridge):
            assert program.stop() < 10
    rows = await site.fetch("SELECT sequence_id FROM raw_telemetry")
    nul = next(number for number, (what, *_) in enumerate(HOSTILE) if what == "NUL in the payload")
    assert {row[0] for row in rows} == set(range(len(HOSTILE))) - {nul}, "NUL is a dead letter, as in any field"
    assert await site.ends(site.settings.kafka_dlq_topic)
    states = {"a state of 10 KB", "a state that is none", "a state the SDK cannot read", "a state of a wrong type"}
    followed = {"upper case is read", "twice", "500 times", *states}
    numbers = [number for number, (what, *_) in enumerate(HOSTILE) if what in followed]
    assert sorted(span.attributes["sequence_id"] for span in otlp.trace(TRACE) if span.name == "bridge") == numbers


# Headers of a record that no bridge of ours has written, and how many contexts of it are counted.
HOSTILE_HEADERS: list[tuple[list[tuple[str, bytes]], int]] = [
    ([("traceparent", b"")], 1),
    ([("traceparent", PARENT[:-1].encode() + b"\0")], 1),
    ([("traceparent", b"\xff" * 55)], 1),
    ([("traceparent", PARENT.upper().encode())], 1),
    ([("traceparent", b"x" * 500_000)], 1),
    ([("traceparent", PARENT.encode()), ("tracestate", b"a" * 10_240)], 1),
    ([("traceparent", PARENT.encode()), ("tracestate", b"a=b\r\nX: y")], 1),
    ([("traceparent", PARENT.encode()), ("baggage", b"user=1\r\nX-Admin: yes")], 0),
    ([("traceparent", PARENT.encode())] * 100, 0),
]


async def test_the_worker_takes_hostile_headers_of_whoever_writes_to_kafka(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path, otlp: OtlpReceiver
) -> None:
    site = await site_of(kafka, database, mosquitto, unique, tmp_path)
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        for number, (headers, _) in enumerate(HOSTILE_HEADERS):
            full = [("mqtt_topic", b"users/u/devices/d1/telemetry"), *headers]
            await producer.send_and_wait(site.settings.kafka_topic, reading(number), b"u/d1", headers=full)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
        assert await figure(worker, "iot_trace_contexts_invalid_total") == sum(count for _, count in HOSTILE_HEADERS)
        assert worker.stop() < 10
    assert len(await site.fetch("SELECT FROM raw_telemetry")) == len(HOSTILE_HEADERS)
    assert sorted(span.attributes["sequence_id"] for span in otlp.named("worker_process")) == [5, 6, 7, 8]


async def test_one_device_that_samples_everything_has_no_more_than_its_share(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path, otlp: OtlpReceiver
) -> None:
    """3,000 messages of one device, and one of somebody else in the middle of them."""
    site = await site_of(kafka, database, mosquitto, unique, tmp_path, trace_incoming_per_second=20)
    with site.program("worker") as worker, site.program("bridge") as bridge:
        await worker.ready()
        await bridge.ready()
        began = time.monotonic()
        async with publisher(mosquitto, unique) as client:
            for numbers in (range(1_500), range(1_500, 3_000)):
                flood = [(f"users/{unique}/devices/d1/telemetry", reading(number)) for number in numbers]
                await client.publish(flood, user_properties=[("traceparent", PARENT)])
                other = (f"users/{unique}b/devices/d1/telemetry", reading(numbers.start))
                await client.publish([other], user_properties=[("traceparent", PARENT)])
        await until(lambda: stored(site, 3_002), 30, lambda: "not all are stored")
        seconds = time.monotonic() - began
        await site.settled_input()
        limited = await figure(bridge, "iot_trace_incoming_limited_total")
        limited_again = await figure(worker, "iot_trace_incoming_limited_total")  # where the worker lagged behind
        for program in (worker, bridge):
            assert program.stop() < 10
    spans = otlp.named("bridge")
    assert len(otlp.named("bridge", user_id=f"{unique}b")) == 2, "the other's is there"
    assert 10 <= len(spans) <= 10 * (seconds + 2) + 2
    assert limited == 3_002 - len(spans)
    records = await read(site, site.settings.kafka_topic)
    contexts = [context_of(record.headers) for record in records]
    assert {context and context.trace_id for context in contexts} == {int(TRACE, 16)}, "each is still in its trace"
    assert sum(not (context and context.sampled) for context in contexts) == limited
    processed = {span.parent_id for span in otlp.named("worker_process")}
    assert processed <= {span.span_id for span in spans}, "spans of these messages only"
    assert len(processed) == len(spans) - limited_again >= 10


async def the_fleet_publishes(site: Site, broker: Mosquitto) -> None:
    """Publish a message of the simulated fleet, with a trace that begins in the fleet."""
    tracing = start_tracing("fleet", site.settings.model_copy(update={"trace_ratio": 1.0}))
    device = SimulatedDevice(broker, 0, 1, tracing)
    device.connect()
    device.publish(time.time())
    await asyncio.to_thread(device.close, 10.0)
    await asyncio.to_thread(tracing.stop, 5.0)


@asynccontextmanager
async def alerts_heard(broker: Mosquitto) -> AsyncIterator[list[paho.MQTTMessage]]:
    """What arrives on the user's alerts, with its properties."""
    found: list[paho.MQTTMessage] = []
    granted = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, "listener", protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(broker.username, broker.password)
    client.on_message = lambda _, __, message: found.append(message)
    client.on_subscribe = lambda *_: granted.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        client.subscribe(f"users/{USER}/alerts", qos=1)
        assert await asyncio.to_thread(granted.wait, 10)
        yield found
    finally:
        client.disconnect()
        client.loop_stop()


def reading(number: int, **fields: object) -> bytes:
    """A good payload."""
    time_now = datetime.now(UTC).isoformat()
    return json.dumps({"time": time_now, "sequence_id": number, "temperature": 0.5, **fields}).encode()


async def telemetry(site: Site, numbers: range) -> None:
    """Publish readings of fifty devices, and wait until they are stored."""
    topics = [f"users/{site.unique}/devices/d{number}/telemetry" for number in range(50)]
    async with publisher(site.mqtt, site.unique) as client:
        await client.publish([(topics[number % 50], reading(number)) for number in numbers])
    await until(lambda: stored(site, numbers.stop), 60, lambda: f"not all {numbers.stop} are stored")


async def stored(site: Site, count: int = 1) -> bool:
    """Whether so many readings are."""
    (row,) = await site.fetch("SELECT count(*) FROM raw_telemetry")
    return bool(row[0] >= count)


async def dead(program: Running) -> bool:
    return not program.alive


async def at_least(found: Sequence[object], count: int) -> bool:
    return len(found) >= count


def one(otlp: OtlpReceiver, name: str) -> ReceivedSpan:
    """The only span of that name."""
    found = otlp.named(name)
    assert len(found) == 1, f"{len(found)} spans {name} among {sorted(span.name for span in otlp.spans)}"
    return found[0]


def in_order(spans: Sequence[ReceivedSpan]) -> None:
    """Each begins after the one before it; the bridge knows the time of arrival in milliseconds."""
    starts = [span.start for span in spans]
    assert all(later >= earlier - 1_000_000 for earlier, later in pairwise(starts)), starts
    assert all(span.end >= span.start for span in spans)


def memory(program: Running) -> int:
    """Bytes that a process has in use."""
    return int(psutil.Process(program.pid).memory_info().rss)


async def figure(program: Running, name: str) -> float:
    """A counter of a program."""
    _, page = await program.get("/metrics")
    samples = [one for family in text_string_to_metric_families(page) for one in family.samples if one.name == name]
    return sum(one.value for one in samples)


async def test_what_the_bridge_makes_a_dead_letter_of_has_a_span_though_nobody_sampled_it(
    kafka: KafkaServer, mosquitto: MqttServer, unique: str, tmp_path: Path, otlp: OtlpReceiver
) -> None:
    """A message that Kafka refuses for its size, and messages over a limit; the dead letter has the whole payload."""
    await create_topics(kafka.bootstrap, unique, max_bytes=300_000)
    await create_topics(kafka.bootstrap, f"{unique}-dlq", max_bytes=1_000_000)
    limits = {"trace_ratio": 0, "ingress_user_messages": 1e-6, "ingress_burst": 2e6}
    large = os.urandom(400_000)
    with program("bridge", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, unique), **limits) as bridge:
        await bridge.logged("bridge_mqtt_connected")
        async with publisher(mosquitto, unique) as client:
            topic = f"users/{unique}/devices/d1/telemetry"
            await client.publish([(topic, large)], user_properties=[("traceparent", NOT_SAMPLED)])
            await client.publish([(topic, reading(number)) for number in range(3)])
        letters = await read_topic(kafka.bootstrap, f"{unique}-dlq", lambda found: len(found) >= 3)
        assert bridge.stop() < 10
    assert sorted(dict(one.headers)["reason"] for one in letters) == [b"payload_too_large", *[b"rate_limited"] * 2]
    spans = otlp.named("bridge")
    assert sorted(str(span.attributes["iot.reason"]) for span in spans) == [
        "payload_too_large", "rate_limited", "rate_limited",
    ]  # fmt: skip
    assert {span.status for span in spans} == {"ERROR"}
    (refused,) = otlp.named("bridge", **{"iot.reason": "payload_too_large"})
    assert (refused.trace_id, refused.parent_id) == (TRACE, PARENT[36:52]), "in the trace of its message all the same"
    assert {span.attributes["sequence_id"] for span in spans if span is not refused} - {1, 2} == set()
