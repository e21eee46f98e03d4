"""Lines are answered by number: acked once Kafka has them, or refused, each alone and in words."""

import asyncio
import json

import pytest
from prometheus_client import REGISTRY

from app.core.ingress.limits import IngressLimits
from app.core.model.records import Kind
from app.ports import Account
from tests.contract.gateways.tcp.serving import event, served
from tests.waiting import until


def counted(reason: str) -> float:
    """How often something was refused for this reason."""
    return REGISTRY.get_sample_value("iot_gateway_rejected_total", {"gateway": "tcp", "reason": reason}) or 0.0


async def test_a_line_is_the_record_that_mqtt_would_have_brought() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        line = b'{"device_id":"d1", "sequence_id":7,"timestamp":1795226400 ,"temperature":21.50,"x":[1,2]}'
        client.send(line + b"\n")
        assert await client.said() == {"acked": 1}
        (record,) = tcp.writer.records
        assert (record.kind, record.key, record.value) == (Kind.TELEMETRY, b"alice/d1", line)
        assert record.headers[:2] == [("mqtt_topic", b"users/alice/devices/d1/telemetry"), ("kind", b"telemetry")]
        assert record.headers[3] == ("gateway", b"tcp")


async def test_nodes_and_traces() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        client.send(b'{"node_id":"alice","sensor_id":"s1","value":1}\n', event(1, traceparent=trace))
        await client.until_acked(2)
        assert tcp.writer.records[0].headers[0] == ("mqtt_topic", b"iot/alice/s1/telemetry")
        assert tcp.writer.records[1].headers[-1] == ("traceparent", trace.encode())


async def test_acks_are_cumulative_and_never_before_kafkas() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        tcp.writer.there.clear()
        for number in range(1, 101):
            client.send(event(number))
            await asyncio.sleep(0)
        assert await client.silent(0.2)
        tcp.writer.there.set()
        answers = await client.until_acked(100)
        assert [answer["acked"] for answer in answers] == sorted({answer["acked"] for answer in answers})
        assert [json.loads(one.value)["sequence_id"] for one in tcp.writer.records] == list(range(1, 101))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "bad_json"),
        (b'{"device_id":"d1","sequence_id":1,"timestamp":NaN}', "bad_json"),
        (b"[1]", "not_an_object"),
        (b"7", "not_an_object"),
        (b'{"device_id":"d\xff","sequence_id":1,"timestamp":1795226400}', "bad_encoding"),
        (b'{"device_id":"d1","x":"\\ud800","sequence_id":1,"timestamp":1795226400}', "lone_surrogate"),
        (b'{"device_id":"d1","x":' + b"[" * 100 + b"]" * 100 + b',"sequence_id":1,"timestamp":1795226400}', "too_deep"),
        (b'{"device_id":"d1","timestamp":1795226400}', "missing_field"),
        (b'{"device_id":"d1","sequence_id":1}', "missing_field"),
        (b'{"sequence_id":1,"timestamp":1795226400}', "missing_field"),
        (b'{"user_id":"bob","device_id":"d1","sequence_id":1,"timestamp":1795226400}', "not_allowed"),
        (b'{"node_id":"bob","sensor_id":"s1","value":1}', "not_allowed"),
        (b'{"device_id":"../../bob/devices/d1","sequence_id":1,"timestamp":1795226400}', "bad_id"),
        (b'{"device_id":"..","sequence_id":1,"timestamp":1795226400}', "bad_id"),
        (b'{"device_id":"+","sequence_id":1,"timestamp":1795226400}', "bad_id"),
        (b'{"device_id":"d1","sequence_id":"1","timestamp":1795226400}', "wrong_type"),
        (b'{"device_id":"d1","sequence_id":9223372036854775808,"timestamp":1795226400}', "out_of_range"),
        (b'{"device_id":"d1","sequence_id":1,"timestamp":"yesterday"}', "bad_time"),
        (b"\x16\x03\x01\x02\x00\x01\xfc", "bad_encoding"),  # TLS, where there is none
    ],
)
async def test_a_bad_line_is_refused_alone(line: bytes, reason: str) -> None:
    before = counted(reason)
    async with served() as tcp:
        client = await tcp.logged_in()
        client.send(event(1), line + b"\n", event(2))
        answers = await client.until_acked(3)
        (refusal,) = [answer for answer in answers if "line" in answer]
        assert (refusal["line"], refusal["reason"]) == (2, reason), refusal
        assert len(refusal["error"]) > 10
        assert [json.loads(one.value)["sequence_id"] for one in tcp.writer.records] == [1, 2]
    assert counted(reason) == before + 1


async def test_a_refusal_comes_before_the_ack_that_covers_it() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        tcp.writer.there.clear()
        client.send(event(1), b"bad\n", event(2))
        await until(lambda: tcp.intake.queue_depth)
        client.send(b"worse\n")
        assert await client.silent(0.1)
        tcp.writer.there.set()
        answers = await client.until_acked(4)
        assert [answer.get("line", "ack") for answer in answers if answer != {"acked": 3}] == [2, 4, "ack"]


async def test_blank_lines_and_line_ends_of_windows() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        client.send(b"\r\n", *[event(number).replace(b"\n", b"\r\n") for number in (1, 2)], b"\n", b"  \r\n")
        assert await client.until_acked(5) == [{"acked": 5}]
        assert [one.value[-1:] for one in tcp.writer.records] == [b"}", b"}"]


async def test_a_line_in_pieces() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        for byte in event(1) + event(2):
            client.send(bytes([byte]))
            await asyncio.sleep(0.0005)
        await client.until_acked(2)
        assert [one.value for one in tcp.writer.records] == [event(1)[:-1], event(2)[:-1]]


async def test_a_line_that_is_too_long_is_refused_unread() -> None:
    async with served(tcp_line_max_bytes=100_000) as tcp:
        client = await tcp.logged_in()
        client.send(b'{"x":"', b"y" * 5_000_000, b'"}\n', event(1))
        refusal, _ = await client.until_acked(2)
        assert (refusal["line"], refusal["reason"]) == (1, "payload_too_large")
        assert len(tcp.writer.records) == 1
        client.send(b"y" * 100_001 + b"\n", b"z" * 99_999 + b"\n")
        answers = await client.until_acked(4)
        assert [one["reason"] for one in answers[:-1] if "line" in one] == ["payload_too_large", "bad_json"]


async def test_a_last_line_without_its_end_is_none() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        client.send(event(1), event(2)[:-1])
        client.writer.write_eof()
        answers = await client.rest()
        assert answers[-1] == {"acked": 2}
        (refusal,) = [answer for answer in answers if "line" in answer]
        assert (refusal["line"], refusal["reason"]) == (2, "bad_json")
        assert len(tcp.writer.records) == 1


async def test_what_kafka_refuses_for_ever_is_reported_by_its_line() -> None:
    async with served() as tcp:
        tcp.writer.refuses = b"too-large"
        client = await tcp.logged_in()
        client.send(event(1), b"bad\n", event(2), event(3, note="too-large"), event(4))
        answers = await client.until_acked(5)
        refused = {answer["line"]: answer["reason"] for answer in answers if "line" in answer}
        assert refused == {2: "bad_json", 4: "payload_too_large"}


async def test_limits_refuse_by_line_and_say_when_to_come_again() -> None:
    async with served(IngressLimits(device_messages=1.0, burst=3.0)) as tcp:
        client = await tcp.logged_in()
        client.send(*[event(number) for number in range(1, 6)], event(6, "d2"))
        answers = await client.until_acked(6)
        refused = [answer for answer in answers if "line" in answer]
        assert [(one["line"], one["reason"]) for one in refused] == [(4, "rate_limited"), (5, "rate_limited")]
        assert 0 < refused[0]["retry_after"] <= 2
        assert len(tcp.writer.records) == 4


async def test_what_is_refused_is_a_dead_letter_where_that_is_set() -> None:
    async with served(gateway_dead_letter_rejected=True) as tcp:
        client = await tcp.logged_in()
        client.send(b"bad\n", event(1), b"\n")
        await client.until_acked(3)
        (dead,) = tcp.writer.dead
        assert json.loads(dead.value)["payload_base64"] == "YmFk"
        assert ("gateway", b"tcp") in dead.headers


async def test_an_account_of_one_device_needs_not_name_it() -> None:
    async with served() as tcp:
        tcp.accounts.answer = Account("alice", "box")
        client = await tcp.logged_in()
        client.send(b'{"sequence_id":1,"timestamp":1795226400}\n', event(2, "d1"))
        answers = await client.until_acked(2)
        assert [answer["reason"] for answer in answers if "line" in answer] == ["not_allowed"]
        assert [one.key for one in tcp.writer.records] == [b"alice/box"]


async def test_influx_lines() -> None:
    async with served(tcp_format="influx", gateway_influx_device_tag="host", tcp_influx_precision="ms") as tcp:
        client = await tcp.logged_in()
        client.send(
            b"cpu,host=h1 usage=1.5,cores=4i 1795226400123\r\n",
            b"# a comment\n",
            b"cpu,host=h1 usage=NaN\n",
            b"cpu usage=1\n",
            b'cpu,host=h2 text="a\n',  # over TCP a text ends with its line
            b"cpu,host=h2,user_id=bob usage=1\n",
            b"cpu,host=h2 usage=2\n",
        )
        answers = await client.until_acked(7)
        refused = {answer["line"]: answer["reason"] for answer in answers if "line" in answer}
        assert refused == {3: "bad_line", 4: "missing_field", 5: "bad_line", 6: "not_allowed"}
        assert [one.key for one in tcp.writer.records] == [b"alice/h1", b"alice/h2"]
        assert json.loads(tcp.writer.records[0].value)["timestamp"] == 1795226400.123


async def test_influx_lines_that_are_too_long_are_refused_though_their_start_is_good() -> None:
    async with served(tcp_format="influx", tcp_line_max_bytes=1000) as tcp:
        client = await tcp.logged_in()
        client.send(b"m,device_id=d1 a=1" + b" " * 2000 + b"5\n", b"m,device_id=d1 a=1\n")
        refusal, _ = await client.until_acked(2)
        assert refusal["reason"] == "payload_too_large"
        assert len(tcp.writer.records) == 1


async def test_whoever_repeats_everything_loses_nothing() -> None:
    """Connections end anywhere, without a word; each begins again behind its last ack."""
    async with served(tcp_unacked_bytes=50_000) as tcp:
        lines = [event(number, pad="x" * 200) for number in range(3000)]
        acked, connections = 0, 0
        while acked < len(lines):
            connections += 1
            client = await tcp.logged_in()
            begun = acked
            client.send(*lines[begun:])
            for _ in range(connections % 3):
                try:
                    acked = begun + (await client.said())["acked"]
                except TimeoutError:
                    break
                if acked == len(lines):
                    break
            client.break_off()
        await until(lambda: not tcp.intake.queue_depth)
        assert connections > 5
        assert {json.loads(one.value)["sequence_id"] for one in tcp.writer.records} == set(range(3000))
