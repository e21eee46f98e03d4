"""Line protocol over HTTP, in the words of InfluxDB 1 and 2: credentials, errors, partial writes, what clients ask."""

import gzip
import json
import time

import pytest

from app.core.ingress.limits import IngressLimits
from tests.unit.gateways.http.gateway import serving

LINE = b"room,device_id=d1 temperature=21.5 1795226400\n"
V2 = {"Authorization": "Token token-of-alice"}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/v2/write?org=o&bucket=b&precision=s", V2),
        ("/api/v2/write?precision=s", {"Authorization": "Token alice:secret"}),
        ("/api/v2/write?precision=s", {"Authorization": "Bearer token-of-alice"}),
        ("/write?db=x&rp=y&precision=s&u=alice&p=secret", {}),
        ("/write?db=x&precision=s", {"Authorization": "Basic YWxpY2U6c2VjcmV0"}),
    ],
)
async def test_a_line_is_a_reading(path: str, headers: dict[str, str]) -> None:
    async with serving() as here:
        answer = await here.ask(path, LINE, {**headers, "Content-Type": "text/plain; charset=utf-8"})
        assert (answer.status, answer.body) == (204, b"")
        (record,) = here.writer.records
        assert record.headers[0] == ("mqtt_topic", b"users/alice/devices/d1/telemetry")
        found = json.loads(record.value)
        assert (found["temperature"], found["timestamp"], found["measurement"]) == (21.5, 1795226400, "room")


@pytest.mark.parametrize(
    ("query", "time"),
    [("", b"1795226400000000000"), ("?precision=ms", b"1795226400000"), ("?precision=u", b"1795226400000000")],
)
async def test_times_have_the_unit_that_is_said(query: str, time: bytes) -> None:
    async with serving() as here:
        assert (await here.ask(f"/write{query}", LINE.replace(b"1795226400", time), V2)).status == 204
        assert json.loads(here.writer.records[0].value)["timestamp"] == 1795226400


async def test_the_tags_that_name_a_device_are_settings() -> None:
    async with serving(gateway_influx_device_tag="host") as here:
        assert (await here.ask("/write?precision=s", b"cpu,host=web-1 usage=3 1795226400", V2)).status == 204
        assert here.writer.records[0].key == b"alice/web-1"


async def test_the_errors_are_those_of_each_version() -> None:
    async with serving() as here:
        bad = b"what is this\n"
        v2 = await here.ask("/api/v2/write", bad, V2)
        assert (v2.status, v2.json["code"]) == (400, "invalid")
        v1 = await here.ask("/write?u=alice&p=secret", bad)
        assert (v1.status, list(v1.json)) == (400, ["error"])
        assert (await here.ask("/api/v2/write", LINE)).json["code"] == "unauthorized"
        wrong = await here.ask("/write?u=alice&p=guess", LINE)
        assert (wrong.status, b"guess" in wrong.body) == (401, False)
        assert (await here.ask("/api/v2/write?precision=weeks", LINE, V2)).json["code"] == "invalid"
        other = await here.ask("/api/v2/write", b"m,user_id=bob,device_id=d1 a=1", V2)
        assert (other.status, other.json["code"]) == (403, "forbidden")
        assert here.writer.records == []


async def test_of_a_partial_write_the_good_lines_are_there() -> None:
    async with serving() as here:
        body = LINE + b"bad line\n" + LINE.replace(b"d1", b"d2")
        answer = await here.ask("/api/v2/write?precision=s", body, V2)
        assert answer.status == 400
        assert answer.json["message"].startswith("partial write: line 2: ")
        assert answer.json["message"].endswith("dropped=1")
        assert [record.key for record in here.writer.records] == [b"alice/d1", b"alice/d2"]


async def test_over_a_limit_the_sender_is_to_send_all_of_it_again() -> None:
    async with serving(IngressLimits(user_messages=1.0, burst=1.0)) as here:
        answer = await here.ask("/api/v2/write?precision=s", LINE * 3, V2)
        assert (answer.status, answer.json["code"]) == (429, "too many requests")
        assert int(answer.headers["Retry-After"]) >= 1
        assert len(here.writer.records) == 1


async def test_sizes_are_said_so_that_clients_halve_their_batch() -> None:
    async with serving(gateway_body_max_bytes=1000, gateway_batch_max_items=5) as here:
        for body in (gzip.compress(LINE * 100), gzip.compress(LINE * 6), gzip.compress(b"\n" * 900)):
            answer = await here.ask("/api/v2/write?precision=s", body, {**V2, "Content-Encoding": "gzip"})
            assert (answer.status, answer.json["code"]) == (413, "request too large")
        assert (await here.ask("/api/v2/write?precision=s", b"# nothing\n\n", V2)).status == 204


async def test_what_clients_ask_before_they_write() -> None:
    async with serving() as here:
        ping = await here.ask("/ping", method="GET")
        assert (ping.status, ping.headers["X-Influxdb-Version"].startswith("iot-stream-")) == (204, True)
        for path, body in (("/query?q=CREATE%20DATABASE%20x", b""), ("/query", b"q=create+database+%22x%22")):
            assert (await here.ask(path, body)).json == {"results": [{"statement_id": 0}]}
        refused = await here.ask("/query?q=SELECT%201", method="GET")
        assert (refused.status, "only writes" in refused.json["error"]) == (400, True)
        assert (await here.ask("/query", b"q=" + b"x" * 20_000)).status == 413


async def test_many_lines_that_are_refused_hold_nobody_up() -> None:
    async with serving(gateway_dead_letter_rejected=True) as here:
        began = time.process_time()
        await here.ask("/write", b"\n".join(b"cpu,user_id=bob,device_id=d%d a=1" % one for one in range(8_000)), V2)
        assert time.process_time() - began < 5  # 18 s when lines were taken one by one
        assert len(here.writer.dead) == 8_000


async def test_lines_that_are_refused_become_dead_letters_where_that_is_wanted() -> None:
    async with serving(gateway_dead_letter_rejected=True) as here:
        await here.ask("/write?precision=s", b"# comment\n" + LINE + b"\nbad line\n", V2)
        (dead,) = here.writer.dead
        assert json.loads(dead.value)["payload_base64"] == "YmFkIGxpbmU="
