"""The gateway by its answers: what is taken, what is refused and how; nothing is answered before Kafka's ack."""

import asyncio
import gzip
import json
from typing import Any

import pytest
import zstandard

from app.core.ingress.limits import IngressLimits
from app.ports import Account, Refusal
from tests.unit.gateways.http.gateway import GOOD, JSON, TELEMETRY, TOKEN, Serving, serving
from tests.waiting import until

NDJSON = {**TOKEN, "Content-Type": "application/x-ndjson"}


def event(**more: Any) -> dict[str, Any]:
    return {"user_id": "alice", "device_id": "d1", "sequence_id": 1, "time": 1795226400, **more}


async def test_a_message_of_a_device_is_the_record_it_would_have_been_over_mqtt() -> None:
    async with serving() as here:
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        answer = await here.ask(TELEMETRY, GOOD, {**JSON, "traceparent": parent})
        assert (answer.status, answer.json) == (200, {"accepted": 1, "rejected": []})
        assert answer.headers["Content-Type"] == "application/json"
        (record,) = here.writer.records
        assert (record.key, record.value) == (b"alice/d1", GOOD)
        headers = dict(record.headers)
        assert headers.pop("ingest_ms") == b"%d" % record.ingest_ms
        assert headers == {
            "mqtt_topic": b"users/alice/devices/d1/telemetry",
            "kind": b"telemetry",
            "gateway": b"http",
            "traceparent": parent.encode(),
        }


async def test_what_curl_sends_when_nobody_tells_it_a_type_is_json() -> None:
    async with serving() as here:
        said = {**TOKEN, "Content-Type": "application/x-www-form-urlencoded"}
        assert (await here.ask(TELEMETRY, GOOD, said)).status == 200
        assert (await here.ask("/v1/events", json.dumps(event()).encode(), said)).json["accepted"] == 1


async def test_a_message_of_a_sensor_needs_no_time() -> None:
    async with serving() as here:
        answer = await here.ask("/v1/nodes/alice/sensors/s%201/telemetry", b'{"value":3}', JSON)
        assert answer.json == {"accepted": 1, "rejected": []}
        assert here.writer.records[0].headers[0] == ("mqtt_topic", b"iot/alice/s 1/telemetry")


async def test_nothing_is_answered_before_kafka_has_it() -> None:
    async with serving() as here:
        here.writer.there.clear()
        asking = asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON))
        await asyncio.sleep(0.2)
        assert not asking.done()
        here.writer.there.set()
        assert (await asking).status == 200


async def test_without_an_ack_in_time_the_sender_is_asked_to_send_again() -> None:
    async with serving(http_answer_seconds=0.2) as here:
        here.writer.there.clear()
        answer = await here.ask(TELEMETRY, GOOD, JSON)
        assert (answer.status, answer.json["reason"], answer.headers["Retry-After"]) == (503, "no_ack", "5")


async def test_a_client_that_goes_away_takes_nobody_else_with_it() -> None:
    async with serving() as here:
        here.writer.there.clear()
        leaving = [asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON)) for _ in range(5)]
        staying = [asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON)) for _ in range(5)]
        await asyncio.sleep(0.2)
        for one in leaving:
            one.cancel()
        await asyncio.wait(leaving)
        await asyncio.sleep(0.1)
        here.writer.there.set()
        assert [(await one).status for one in staying] == [200] * 5
        assert len(here.writer.records) == 10, "what was taken is written, whoever still waits for it"


async def test_a_full_buffer_is_said_at_once() -> None:
    async with serving(gateway_buffer_bytes=4000) as here:
        here.writer.there.clear()
        asking = [asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON)) for _ in range(12)]
        first, _ = await asyncio.wait(asking, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        done = [one.result() for one in first]
        assert done
        assert {(one.status, one.json["reason"]) for one in done} <= {(503, "busy"), (429, "rate_limited")}
        assert all("Retry-After" in one.headers for one in done)
        here.writer.there.set()
        await asyncio.wait(asking)


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "bad_credentials"),
        ({"Authorization": "Bearer wrong"}, 401, "bad_credentials"),
        ({"Authorization": "Bearer "}, 401, "bad_credentials"),
        ({"Authorization": "Basic YWxpY2U6d3Jvbmc="}, 401, "bad_credentials"),
        ({"Authorization": "Basic !"}, 401, "bad_credentials"),
        ({"Authorization": "Digest x"}, 401, "bad_credentials"),
        ({"Authorization": "Token token-of-alice"}, 401, "bad_credentials"),  # InfluxDB's paths alone know it
        ({"Authorization": "Bearer token-of-bob"}, 403, "not_allowed"),
        ({"Authorization": "Basic YWxpY2U6c2VjcmV0"}, 200, None),
        ({"Authorization": "bearer token-of-alice"}, 200, None),
    ],
)
async def test_who_may_speak(headers: dict[str, str], status: int, reason: str | None) -> None:
    async with serving() as here:
        answer = await here.ask(TELEMETRY, GOOD, headers)
        assert (answer.status, answer.json.get("reason")) == (status, reason)
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        assert len(here.writer.records) == (status == 200)
        assert b"wrong" not in answer.body


@pytest.mark.parametrize(("refusal", "status"), [(Refusal.SLOWED_DOWN, 429), (Refusal.UNAVAILABLE, 503)])
async def test_accounts_that_cannot_be_asked_are_no_wrong_credentials(refusal: Refusal, status: int) -> None:
    async with serving() as here:
        here.accounts.answer = refusal
        answer = await here.ask(TELEMETRY, GOOD, JSON)
        assert (answer.status, answer.json["reason"]) == (status, refusal.value)
        assert int(answer.headers["Retry-After"]) > 0


async def test_the_anonymous_account_is_not_for_pages_of_the_web() -> None:
    async with serving() as here:
        here.accounts.nobody = Account("alice")
        assert (await here.ask(TELEMETRY, GOOD)).status == 200
        answer = await here.ask(TELEMETRY, GOOD, {"Origin": "https://evil.example"})
        assert (answer.status, answer.json["reason"]) == (403, "from_a_page")


async def test_credentials_are_asked_once_of_a_connection_that_repeats_them() -> None:
    request = b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-%b\r\nContent-Length: %d\r\n%b\r\n%b"

    def of(user: bytes, more: bytes = b"") -> bytes:
        return request % (TELEMETRY.encode(), user, len(GOOD), more, GOOD)

    async with serving() as here:
        found = await here.raw(of(b"alice"), of(b"alice"), of(b"alice"), of(b"bob", b"Connection: close\r\n"))
        assert found.count(b"HTTP/1.1 200 OK") == 3
        assert found.count(b"HTTP/1.1 403 Forbidden") == 1
        assert here.accounts.seen == [("token-of-alice", "127.0.0.1"), ("token-of-bob", "127.0.0.1")]


async def test_one_account_leaves_requests_for_others() -> None:
    bob = {"Authorization": "Bearer token-of-bob", "Content-Type": "application/json"}
    async with serving(gateway_account_connections=2) as here:
        here.writer.there.clear()
        waiting = [asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON)) for _ in range(2)]
        await until(lambda: here.intake.queue_depth == 2)
        refused = await here.ask(TELEMETRY, GOOD, JSON)
        assert (refused.status, refused.json["reason"]) == (429, "too_many_requests")
        assert refused.headers["Retry-After"] == "1"
        waiting.append(asyncio.create_task(here.ask(TELEMETRY.replace("alice", "bob"), GOOD, bob)))
        await until(lambda: here.intake.queue_depth == 3)
        here.writer.there.set()
        assert [(await one).status for one in waiting] == [200, 200, 200]
        assert (await here.ask(TELEMETRY, GOOD, JSON)).status == 200


async def test_behind_a_proxy_its_word_counts_for_the_address() -> None:
    forwarded = {**JSON, "X-Forwarded-For": "198.51.100.9, 203.0.113.7"}
    async with serving() as here:
        await here.ask(TELEMETRY, GOOD, forwarded)
        assert here.accounts.seen[-1][-1] == "127.0.0.1"
    async with serving(gateway_behind_proxy=True) as here:
        for said, address in (("198.51.100.9, 203.0.113.7", "203.0.113.7"), ("nonsense", "")):
            await here.ask(TELEMETRY, GOOD, {**JSON, "X-Forwarded-For": said})
            assert here.accounts.seen[-1][-1] == address


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        (TELEMETRY, b"", JSON, 400, "empty_payload"),
        (TELEMETRY, b"[]", JSON, 400, "not_an_object"),
        (TELEMETRY, b'{"sequence_id":1}', JSON, 400, "missing_field"),
        (TELEMETRY, b'{"sequence_id":NaN,"time":1}', JSON, 400, "bad_json"),
        (TELEMETRY, b'{"sequence_id":1,"time":1,"a":"\xff"}', JSON, 400, "bad_encoding"),
        (TELEMETRY, GOOD, {**TOKEN, "Content-Type": "text/plain"}, 415, "unsupported_type"),
        (TELEMETRY, GOOD, {**JSON, "Content-Encoding": "br"}, 415, "unknown_encoding"),
        (TELEMETRY, GOOD, {**JSON, "Content-Encoding": "gzip"}, 400, "bad_encoding"),
        (TELEMETRY, gzip.compress(GOOD, mtime=0)[:-4], {**JSON, "Content-Encoding": "gzip"}, 400, "bad_encoding"),
        ("/v1/users/a%2Fb/devices/d1/telemetry", GOOD, JSON, 400, "bad_id"),
        ("/v1/users/%2E%2E/devices/d1/telemetry", GOOD, JSON, 400, "bad_id"),
        ("/v1/users/../devices/../telemetry", GOOD, JSON, 400, "bad_id"),
        ("/v1/users/%ff/devices/d1/telemetry", GOOD, JSON, 400, "bad_id"),
        ("/v1/users/alice/devices/d%00/telemetry", GOOD, JSON, 400, "nul_character"),
        ("/v1/users/alice/devices/%23/telemetry", GOOD, JSON, 400, "bad_id"),
        ("/v1/users/alice/devices//telemetry", GOOD, JSON, 400, "bad_id"),
        ("/v1/users/alice/devices/d1/telemetry/", GOOD, JSON, 404, "not_found"),
        ("/v1/users/alice/sensors/d1/telemetry", GOOD, JSON, 404, "not_found"),
        ("/v1/users", GOOD, JSON, 404, "not_found"),
        ("/v1/events", b"[1,", JSON, 400, "bad_json"),
        ("/v1/events", b"[" * 200_000, JSON, 400, "bad_json"),
        ("/v1/events", b"", JSON, 400, "not_an_object"),
        ("/v1/events", b"\xff", {**TOKEN, "Content-Type": "application/x-protobuf"}, 400, "malformed"),
        ("/v1/events", b"[]", {**TOKEN, "Content-Type": "text/plain"}, 415, "unsupported_type"),
        ("/v1/events", b"a=1", {**TOKEN, "Content-Type": "application/x-www-form-urlencoded"}, 400, "not_an_object"),
    ],
)
async def test_what_is_refused_says_why(
    path: str, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    async with serving() as here:
        answer = await here.ask(path, body, headers)
        assert (answer.status, answer.json["reason"]) == (status, reason)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["status"] == status
        assert here.writer.records == []


@pytest.mark.parametrize(("path", "allowed"), [(TELEMETRY, "POST"), ("/v1/events", "POST"), ("/live", "GET, HEAD")])
async def test_a_method_that_is_not_allowed_hears_which_are(path: str, allowed: str) -> None:
    async with serving() as here:
        answer = await here.ask(path, b"", TOKEN, "DELETE")
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("coding", "made"),
    [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress), ("GZIP", gzip.compress)],
)
async def test_compressed_bodies(coding: str, made: Any) -> None:
    async with serving() as here:
        answer = await here.ask(TELEMETRY, made(GOOD), {**JSON, "Content-Encoding": coding})
        assert answer.status == 200
        assert here.writer.records[0].value == GOOD


async def test_sizes_are_bounded_before_and_after_they_are_inflated() -> None:
    async with serving(gateway_body_max_bytes=10_000, payload_max_bytes=1000) as here:
        for body, coding in (
            (b"x" * 10_001, "identity"),
            (gzip.compress(b" " * 10_001), "gzip"),
            (zstandard.ZstdCompressor().compress(b" " * 10_001), "zstd"),
        ):
            answer = await here.ask(TELEMETRY, body, {**JSON, "Content-Encoding": coding})
            assert (answer.status, answer.json["reason"]) == (413, "too_large"), coding
        large = GOOD.replace(b"21.5", b"21." + b"5" * 1000)
        answer = await here.ask(TELEMETRY, large, JSON)
        assert (answer.status, answer.json["reason"]) == (413, "payload_too_large")


async def test_of_a_batch_bad_items_alone_are_rejected() -> None:
    items = [event(), event(user_id="bob"), {"device_id": "d1"}, 7, event(sequence_id=2), event(sequence_id="x")]
    reasons = {1: "not_allowed", 2: "missing_field", 3: "not_an_object", 5: "wrong_type"}
    bodies = {
        "application/json": json.dumps(items).encode(),
        "application/x-ndjson": b"\r\n".join(json.dumps(item).encode() for item in items) + b"\n\n",
        "": json.dumps(items).encode(),
    }
    for kind, body in bodies.items():
        async with serving() as here:
            answer = await here.ask("/v1/events", body, {**TOKEN, **({"Content-Type": kind} if kind else {})})
            assert (answer.status, answer.json["accepted"]) == (200, 2), kind
            assert {one["index"]: one["reason"] for one in answer.json["rejected"]} == reasons
            assert [record.value for record in here.writer.records] == [
                json.dumps(items[0]).encode(), json.dumps(items[4]).encode()
            ]  # fmt: skip


async def test_a_batch_of_which_nothing_is_taken_is_no_success() -> None:
    async with serving() as here:
        answer = await here.ask("/v1/events", json.dumps([event(user_id="bob")] * 2).encode(), JSON)
        assert (answer.status, answer.json["accepted"], len(answer.json["rejected"])) == (403, 0, 2)
        assert (await here.ask("/v1/events", b"[]", JSON)).json == {"accepted": 0, "rejected": []}


async def test_a_batch_has_a_bound_of_items_whatever_it_is() -> None:
    async with serving(gateway_batch_max_items=3) as here:
        line = json.dumps(event()).encode()
        for headers, body in (
            (JSON, b"[" + b",".join([line] * 4) + b"]"),
            (JSON, b"[" + b"1," * 100_000 + b"1]"),
            (NDJSON, b"\n".join([line] * 4)),
            (NDJSON, b"\n" * 100_000),
        ):
            answer = await here.ask("/v1/events", body, headers)
            assert (answer.status, answer.json["reason"]) == (413, "too_many_items")
        assert here.writer.records == []


async def test_a_limit_of_the_account_says_when_to_come_again() -> None:
    async with serving(IngressLimits(device_messages=1.0, burst=2.0)) as here:
        body = json.dumps([event(sequence_id=number) for number in range(5)]).encode()
        answer = await here.ask("/v1/events", body, JSON)
        assert (answer.status, answer.json["accepted"]) == (200, 2)
        assert {one["reason"] for one in answer.json["rejected"]} == {"rate_limited"}
        assert int(answer.headers["Retry-After"]) >= 1
        answer = await here.ask(TELEMETRY, GOOD, JSON)
        assert (answer.status, answer.json["reason"]) == (429, "rate_limited")
        assert int(answer.headers["Retry-After"]) >= 1
        other = await here.ask("/v1/users/alice/devices/d2/telemetry", GOOD, JSON)
        assert other.status == 200, "a limit of one device is no other's"


async def test_what_kafka_refuses_for_ever_is_rejected() -> None:
    async with serving() as here:
        here.writer.refuses = b'"sequence_id": 2'
        body = json.dumps([event(user_id="bob"), *(event(sequence_id=number) for number in (1, 2, 3))]).encode()
        answer = await here.ask("/v1/events", body, JSON)
        assert answer.json["accepted"] == 2
        assert [(one["index"], one["reason"]) for one in answer.json["rejected"]] == [
            (0, "not_allowed"), (2, "payload_too_large")
        ]  # fmt: skip


async def test_rejected_items_become_dead_letters_where_that_is_wanted() -> None:
    async with serving(gateway_dead_letter_rejected=True) as here:
        await here.ask("/v1/events", b'{"a":1}\nnonsense\n', NDJSON)
        await here.ask("/v1/events", b'[{"a" : 2}]', JSON)
        kept = [json.loads(one.value) for one in here.writer.dead]
        assert [one["reason"] for one in kept] == ["missing_field", "bad_json", "missing_field"]
    async with serving() as here:
        await here.ask("/v1/events", b"nonsense\n", NDJSON)
        assert here.writer.dead == []


async def _slow(here: Serving, delay: float) -> int:
    async def pieces() -> Any:
        yield GOOD[:10]
        await asyncio.sleep(delay)
        yield GOOD[10:]

    import aiohttp

    async with aiohttp.ClientSession() as client, client.post(here.url + TELEMETRY, data=pieces(), headers=JSON) as got:
        return got.status


async def test_a_stop_answers_what_is_in_flight() -> None:
    async with serving() as here:
        here.writer.there.clear()
        asking = [asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON)) for _ in range(3)]
        slow = asyncio.create_task(_slow(here, 0.5))
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(here.gateway.stop(3.0))
        await asyncio.sleep(0.1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", here.gateway.port)
        await asyncio.sleep(0.6)
        here.writer.there.set()
        assert [(await one).status for one in asking] == [200] * 3
        assert await slow == 200
        await asyncio.wait_for(stopping, 1.0)


async def test_a_stop_tells_those_without_an_ack_to_send_again() -> None:
    async with serving() as here:
        here.writer.there.clear()
        asking = asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(here.gateway.stop(1.0), 1.5)
        assert (await asking).status == 503
