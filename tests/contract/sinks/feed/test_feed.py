"""The sink http_feed on a real HTTP server: the requests, and the outcome of each kind of answer."""

import asyncio
import gzip
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.feed.client import CURES
from app.sinks.feed.sink import REFUSALS, FeedSink
from app.sinks.port import Flushed, Held, SinkMisconfigured, SinkUnavailable
from app.sinks.pushing.lane import TRIES
from tests.receivers.http_receiver import Answer, HttpReceiver, Item, http_receiver
from tests.receivers.readings import pushed
from tests.secured import Certificates
from tests.unit.sinks.pushing.sent import record
from tests.waiting import open_sockets, until

TOKEN = "a-token-of-the-test"


@asynccontextmanager
async def feed(receiver: HttpReceiver, **settings: Any) -> AsyncIterator[FeedSink]:
    given = {"feed_url": receiver.url, "feed_token": TOKEN, "feed_timeout": 5.0, **settings}
    sink = FeedSink("feed-1", Settings(**given))
    try:
        yield sink
    finally:
        await sink.close()


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    async with http_receiver() as made:
        yield made


async def written(sink: FeedSink) -> int:
    """The number of records that a flush has written."""
    before = sink.held.records
    done = await sink.flush()
    return before - sink.held.records - len(done.refused)


async def test_a_request_is_sent_only_while_the_sink_may_write(receiver: HttpReceiver) -> None:
    """A process that wakes from a stall gets the answer to its last request first, and then looks at its lease."""
    async with feed(receiver, feed_batch=4, feed_requests=1) as sink:
        sink.add([pushed(n) for n in range(20)])
        assert await sink.flush(lambda: len(receiver.sizes) < 2) == ({0: 8}, [])
        assert receiver.sizes == [4, 4]
        assert sink.held.records == 12
        assert await sink.flush() == ({0: 20}, [])
    assert numbers(receiver.taken) == list(range(20))


def numbers(items: Iterable[Item]) -> list[int]:
    return [item["sequence_id"] for item in items]


async def flushed(sink: FeedSink, times: int = 100) -> list[Flushed]:
    """Flush until the buffer is empty; the result of each flush."""
    done = []
    while sink.held.records:
        try:
            done.append(await sink.flush())
        except SinkUnavailable as failure:
            done.append(failure.so_far)
        times -= 1
        assert times, f"{sink.held.records} records are held still"
    return done


def refused(done: Iterable[Flushed]) -> list[int]:
    return [one.offset for flush in done for one, _ in flush.refused]


async def test_readings_are_posted_in_batches_with_the_token(receiver: HttpReceiver) -> None:
    async with feed(receiver) as sink:
        assert sink.linger == 0.5
        await sink.open()
        sink.add([pushed(n, f"d{n % 3}") for n in range(199)])
        assert not sink.due
        sink.add([pushed(n, f"d{n % 3}") for n in range(199, 450)])
        assert sink.due
        assert await sink.flush() == ({0: 450}, [])
        assert sink.held == Held()
    assert receiver.heads == 1
    assert receiver.sizes == [200, 200, 50]
    assert numbers(receiver.taken) == list(range(450))
    assert receiver.taken[1]["device_id"] == "d1"
    assert len(set(receiver.names)) == 3
    for headers in receiver.headers:
        assert headers["X-Predictive-Ingest-Token"] == TOKEN
        assert headers["Content-Type"] == "application/json"
        assert headers["User-Agent"].startswith("iot-stream/")
        assert "Authorization" not in headers


async def test_four_batches_fill_the_queue_or_what_is_set(receiver: HttpReceiver) -> None:
    for settings, most in (({}, 800), ({"feed_batch": 3}, 12), ({"feed_queue": 5}, 5)):
        async with feed(receiver, **settings) as sink:
            sink.add([pushed(n) for n in range(most - 1)])
            assert not sink.held.full
            sink.add([pushed(most)])
            assert sink.held.full


async def test_an_account_in_the_address_is_shown_as_one(receiver: HttpReceiver) -> None:
    async with feed(receiver, feed_url=receiver.url.replace("//", "//me:pw@")) as sink:
        sink.add([pushed(0)])
        await sink.flush()
    assert receiver.headers[0]["Authorization"] == "Basic " + b64encode(b"me:pw").decode()
    assert receiver.headers[0]["X-Predictive-Ingest-Token"] == TOKEN


async def test_other_forms(receiver: HttpReceiver) -> None:
    more = {"feed_format": "ndjson", "feed_gzip": True, "feed_batch": 3, "feed_token_header": "Authorization"}
    async with feed(receiver, **more) as sink:
        sink.add([*(pushed(n, text="ä\n") for n in range(4)), record(4, "iot/n", payload=b"up", kind=Kind.STATUS)])
        await sink.flush()
        assert sink.shown([pushed(1)])[0].startswith('{"user_id":"u"')
    assert receiver.sizes == [3, 2]
    assert receiver.taken[3]["text"] == "ä\n"
    assert receiver.taken[4] == {"kind": "status", "ingest_ms": 0, "node_id": "n", "payload": "up"}
    assert receiver.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert receiver.headers[0]["Content-Encoding"] == "gzip"
    assert receiver.headers[0]["Content-Type"] == "application/x-ndjson"


async def test_a_request_that_is_repeated_is_the_same(receiver: HttpReceiver) -> None:
    receiver.script.extend([Answer(503), Answer(cut=True, taken=True)])
    async with feed(receiver, feed_batch=2) as sink:
        sink.add([pushed(n) for n in range(3)])
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                await sink.flush()
        sink.add([pushed(3)])
        assert await sink.flush() == ({0: 4}, [])
    assert receiver.sizes == [2, 2, 2, 2]
    assert receiver.names[0] == receiver.names[1] == receiver.names[2] != receiver.names[3]
    assert receiver.bodies[0] == receiver.bodies[1] == receiver.bodies[2]
    assert numbers(receiver.taken) == [0, 1, 0, 1, 2, 3]


async def test_what_was_taken_before_a_failure_is_reported(receiver: HttpReceiver) -> None:
    receiver.script.extend([Answer(200), Answer(502)])
    async with feed(receiver, feed_batch=2) as sink:
        sink.add([pushed(n, partition=n // 3) for n in range(6)])
        with pytest.raises(SinkUnavailable, match="the receiver answers 502") as caught:
            await sink.flush()
        assert caught.value.so_far == ({0: 2, 1: 3}, [])
        assert sink.held.records == 4
        assert await sink.flush() == ({0: 3, 1: 6}, [])


@pytest.mark.parametrize("status", [400, 409, 413, 422])
async def test_a_refused_batch_is_halved_and_the_record_at_fault_refused(receiver: HttpReceiver, status: int) -> None:
    receiver.judge = lambda items: Answer(status, "no\n\x1b[31m") if 5 in numbers(items) else None
    async with feed(receiver) as sink:
        sink.add([pushed(n) for n in range(8)])
        done = await sink.flush()
    assert [(one.offset, why) for one, why in done.refused] == [(5, f"the receiver answers {status}: no ?[31m")]
    assert numbers(receiver.taken) == [0, 1, 2, 3, 4, 6, 7]


async def test_only_the_readings_that_a_receiver_rejects_are_refused(receiver: HttpReceiver) -> None:
    rejected = [
        {"index": 1, "reason": "wrong_type", "error": "battery is a text"},
        {"index": 9, "reason": "beyond", "error": "the batch"},
    ]
    receiver.script.append(Answer(200, {"accepted": 3, "rejected": rejected}))
    async with feed(receiver) as sink:
        sink.add([pushed(n) for n in range(4)])
        done = await sink.flush()
    why = "the receiver rejects it: wrong_type: battery is a text"
    assert [(one.offset, said) for one, said in done.refused] == [(1, why)]
    assert receiver.sizes == [4]


@pytest.mark.parametrize("body", [{"accepted": 3, "rejected": 0}, "ok", [1], {"rejected": [{"reason": "x"}]}, None])
async def test_other_bodies_of_a_success_reject_no_reading(receiver: HttpReceiver, body: Any) -> None:
    receiver.script.append(Answer(200, body))
    async with feed(receiver) as sink:
        sink.add([pushed(n) for n in range(3)])
        assert await written(sink) == 3


async def test_readings_over_a_limit_of_the_receiver_come_again_before_the_others(receiver: HttpReceiver) -> None:
    late = [{"index": place, "reason": "rate_limited", "error": "wait"} for place in (1, 2)]
    receiver.script.append(Answer(200, {"accepted": 1, "rejected": late}))
    async with feed(receiver, feed_batch=3) as sink:
        sink.add([pushed(n) for n in range(5)])
        with pytest.raises(SinkUnavailable, match="later"):
            await sink.flush()
        assert sink.held.records == 4
        await sink.flush()
    assert receiver.sizes == [3, 2, 2]
    assert json.loads(receiver.bodies[1])[0]["sequence_id"] == 1


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405, 408, 410, 415, 425, 429, 501, 502, 503, 504])
async def test_failures_without_a_faulty_reading_are_retried(receiver: HttpReceiver, status: int) -> None:
    receiver.judge = lambda _: Answer(status, headers={"Retry-After": "7", "Location": receiver.url + "x"})
    async with feed(receiver) as sink:
        sink.add([pushed(0)])
        for _ in range(2 * TRIES):
            with pytest.raises(SinkUnavailable, match=f"the receiver answers {status}") as caught:
                await sink.flush()
        assert caught.value.so_far == ({0: 0}, [])
        if status >= 400:
            assert caught.value.retry_after == 7
        cure = CURES.get(status, "IOT_FEED_URL to the target of the redirection" if status < 400 else "")
        assert cure in caught.value.cure
        assert receiver.url not in str(caught.value)
        receiver.judge = lambda _: None
        assert await written(sink) == 1


async def test_a_record_over_which_the_receiver_fails_holds_up_its_own_device_alone(receiver: HttpReceiver) -> None:
    def judge(items: Any) -> Answer | None:
        return Answer(500, "Traceback") if 3 in numbers(items) else None

    receiver.judge = judge
    async with feed(receiver) as sink:
        sink.add([pushed(n, f"d{n % 4}") for n in range(12)])
        done: list[Flushed] = []
        for number in range(12, 32):
            try:
                done.append(await sink.flush())
            except SinkUnavailable as failure:
                done.append(failure.so_far)
            sink.add([pushed(number, "other")])
        await sink.flush()
    assert refused(done) == [3]
    assert sorted(numbers(receiver.taken)) == [n for n in range(32) if n != 3]
    of_device = [item["sequence_id"] for item in receiver.taken if item["device_id"] == "d3"]
    assert of_device == [7, 11]


async def test_a_receiver_that_fails_on_all_batches_causes_no_refusal(receiver: HttpReceiver) -> None:
    receiver.judge = lambda _: Answer(500)
    async with feed(receiver) as sink:
        sink.add([pushed(n, f"d{n % 9}") for n in range(40)])
        for _ in range(30):
            try:
                done = await sink.flush()
            except SinkUnavailable as failure:
                done = failure.so_far
            assert (done.refused, sink.held.records) == ([], 40)
        receiver.judge = lambda _: None
        await flushed(sink)
    assert sorted(numbers(receiver.taken)) == list(range(40))


async def test_refusals_are_handed_over_before_there_are_too_many(receiver: HttpReceiver) -> None:
    receiver.judge = lambda _: Answer(422)
    async with feed(receiver) as sink:
        sink.add([pushed(n) for n in range(2 * REFUSALS)])
        done = await sink.flush()
        assert len(done.refused) == REFUSALS
        assert sink.held.records == REFUSALS
        assert done.upto == {0: REFUSALS}


async def test_requests_at_a_time_keep_the_order_of_each_device(receiver: HttpReceiver) -> None:
    receiver.judge = lambda items: Answer(seconds=0.002 * (items[0]["sequence_id"] % 3))
    async with feed(receiver, feed_requests=4, feed_batch=20) as sink:
        sink.add([pushed(n, f"d{n % 17}") for n in range(600)])
        receiver.script.extend([Answer(200), Answer(503), Answer(200), Answer(cut=True, taken=True)])
        done = await flushed(sink)
    assert done[-1].upto == {0: 600}
    assert receiver.at_once == 4
    for device in range(17):
        first = dict.fromkeys(item["sequence_id"] for item in receiver.taken if item["device_id"] == f"d{device}")
        assert list(first) == list(range(device, 600, 17))


async def test_one_request_at_a_time_keeps_the_order_of_all(receiver: HttpReceiver) -> None:
    async with feed(receiver, feed_batch=10) as sink:
        sink.add([pushed(n, f"d{n % 17}") for n in range(100)])
        await sink.flush()
    assert receiver.at_once == 1
    assert numbers(receiver.taken) == list(range(100))


async def test_a_flush_that_is_cancelled_holds_what_has_no_answer(receiver: HttpReceiver) -> None:
    receiver.script.extend([Answer(), Answer(seconds=5, taken=True)])
    async with feed(receiver, feed_batch=2) as sink:
        sink.add([pushed(n) for n in range(5)])
        flushing = asyncio.ensure_future(sink.flush())
        await until(lambda: len(receiver.names) == 2)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        assert await sink.flush() == ({0: 5}, [])
    assert numbers(receiver.taken) == [0, 1, 2, 3, 2, 3, 4]
    assert receiver.names[1] == receiver.names[2]


async def test_what_is_revoked_is_not_posted(receiver: HttpReceiver) -> None:
    receiver.script.append(Answer(503))
    async with feed(receiver) as sink:
        sink.add([pushed(n, f"d{n % 2}", partition=n % 2) for n in range(6)])
        with pytest.raises(SinkUnavailable):
            await sink.flush()
        await sink.revoked([0])
        assert sink.held.records == 3
        assert await sink.flush() == ({1: 6}, [])
    assert numbers(receiver.taken) == [1, 3, 5]


async def test_a_receiver_that_is_not_there_or_silent_is_unavailable(receiver: HttpReceiver) -> None:
    async with feed(receiver, feed_timeout=1.0) as sink:
        sink.add([pushed(0)])
        receiver.script.append(Answer(seconds=2))
        with pytest.raises(SinkUnavailable, match="nothing in time"):
            await sink.flush()
        await receiver.stop()
        words = f"does not answer: 127.0.0.1:{receiver.port}: Connect call failed"
        for call in (sink.open, sink.flush):
            with pytest.raises(SinkUnavailable, match=words) as caught:
                await call()
            assert "predictive" not in str(caught.value), "an address may have a token in it"
            assert caught.value.__suppress_context__
        await receiver.start()
        await sink.open()
        assert await written(sink) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_reported_before_any_post(receiver: HttpReceiver, status: int) -> None:
    receiver.head = status
    async with feed(receiver) as sink:
        with pytest.raises(SinkUnavailable, match="look at IOT_FEED_TOKEN"):
            await sink.open()
    assert receiver.names == []


async def test_an_answer_without_end_is_not_read_to_its_end(receiver: HttpReceiver) -> None:
    receiver.script.append(Answer(200, "x" * (8 << 20)))
    async with feed(receiver) as sink:
        sink.add([pushed(0)])
        assert await written(sink) == 1
        sink.add([pushed(1)])
        assert await written(sink) == 1


async def test_certificates_and_credentials_are_checked(tmp_path: Path) -> None:
    made, sockets = Certificates(tmp_path), open_sockets()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.ca))
    context.load_cert_chain(made.server, made.server_key)
    context.verify_mode = ssl.CERT_REQUIRED
    own = {"feed_certificate_file": made.client, "feed_key_file": made.client_key}
    async with http_receiver(tls=context) as receiver:
        async with feed(receiver, feed_ca_file=made.ca, **own) as sink:
            await sink.open()
            sink.add([pushed(0)])
            assert await written(sink) == 1
        for files in ({"feed_ca_file": made.strange_ca, **own}, own):
            async with feed(receiver, **files) as sink:
                with pytest.raises(SinkUnavailable, match=r"is not trusted .*: name its CA in IOT_FEED_CA_FILE"):
                    await sink.open()
        async with feed(receiver, feed_ca_file=made.ca) as sink:
            with pytest.raises(SinkUnavailable):
                await sink.open()
    assert len(receiver.names) == 1
    await until(lambda: open_sockets() == sockets)  # aiohttp's close does not wait for the end of a refused TLS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "IOT_FEED_URL is not set"),
        ({"feed_url": "http://127.0.0.1/x", "feed_ca_file": "ca"}, "IOT_FEED_URL is no https://"),
        ({"feed_url": "http://127.0.0.1/x", "feed_token": "a\r\nb: c"}, "IOT_FEED_TOKEN: a header"),
        ({"feed_url": "http://127.0.0.1/x", "feed_token": "ü"}, "IOT_FEED_TOKEN: a header"),
        (
            {"feed_url": "http://me:pw@127.0.0.1/x", "feed_token": "t", "feed_token_header": "authorization"},
            "IOT_FEED_TOKEN_HEADER: IOT_FEED_URL names an account",
        ),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    if "feed_ca_file" in settings:
        settings = {**settings, "feed_ca_file": Certificates(tmp_path).ca}
    with pytest.raises(SinkMisconfigured, match=words) as caught:
        FeedSink("feed", Settings(**settings))
    assert "a\r\nb" not in str(caught.value)


async def test_compressed_bodies_are_gzip(receiver: HttpReceiver) -> None:
    """Checked on the bytes of a connection, as the receiver of the other tests decompresses bodies."""
    got = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        got.extend(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, feed(receiver, feed_url=f"http://127.0.0.1:{port}/", feed_gzip=True) as sink:
        sink.add([pushed(n) for n in range(50)])
        assert await written(sink) == 50
    assert numbers(json.loads(gzip.decompress(bytes(got)))) == list(range(50))
