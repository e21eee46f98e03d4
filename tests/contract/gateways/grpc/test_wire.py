"""What no client of gRPC would send, byte by byte: wrong lengths, frames cut short, floods; each ends one call."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from tests.contract.gateways.grpc.raw_http2 import RST_STREAM, RawConnection, frame
from tests.contract.gateways.grpc.world import TOKEN, World, batch, connected, push, world
from tests.waiting import until

PUSH, STREAM = (f"/iot_stream.ingest.v1.Ingest/{name}" for name in ("PushMetrics", "StreamMetrics"))
GOOD = push(1, [1]).SerializeToString()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.fixture
async def it(path: Path) -> AsyncIterator[World]:
    """A gateway that serves other callers afterwards."""
    async with world(path, grpc_account_calls=8, gateway_idle_seconds=1.0) as found:
        yield found
        async with connected(path) as stub:
            assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN, timeout=5)).accepted == 1


def message(data: bytes, flag: int = 0, size: int | None = None) -> bytes:
    """As gRPC frames it; `size` another than it has."""
    return struct.pack(">BI", flag, len(data) if size is None else size) + data


def ended(path: Path, data: bytes, method: str = PUSH, **headers: str) -> bytes:
    """The trailers of one call with these bytes, its end behind them."""
    made = RawConnection(path)
    try:
        stream = made.call(method, **headers)
        made.data(stream, data, end=True)
        return made.trailers(stream)
    finally:
        made.close()


def status(number: int) -> bytes:
    text = str(number).encode()
    return b"grpc-status" + bytes([len(text)]) + text


async def test_by_hand_a_good_call_is_a_good_call(it: World, path: Path) -> None:
    assert status(0) in await asyncio.to_thread(ended, path, message(GOOD))
    assert len(it.written) == 1


@pytest.mark.parametrize(
    ("data", "unary", "streamed"),
    [
        (message(b"", size=0xFFFFFFFF), "8", "8"),
        (message(GOOD, size=(2 << 20) + 1), "8", "8"),
        (message(GOOD, size=len(GOOD) - 1), "3", "3"),
        (message(GOOD, flag=1), "13", "13"),
        # gRPC takes a message that does not become whole for the end of the stream: it has no ack.
        (message(GOOD, size=len(GOOD) + 1), "3", "0"),
        # To gRPC an empty message, an ack of nothing; or none, where the end of the call is seen first.
        (message(GOOD, flag=7), "0 3", "0"),
        (message(GOOD)[:4], "3", "0"),
        (b"", "3", "0"),
    ],
)
async def test_wrong_lengths_and_frames_end_their_call(
    it: World, path: Path, data: bytes, unary: str, streamed: str
) -> None:
    for method, numbers in ((PUSH, unary), (STREAM, streamed)):
        found = await asyncio.to_thread(ended, path, data, method)
        assert any(status(int(number)) in found for number in numbers.split()), found
    assert it.written == []


async def test_a_compression_that_nobody_knows(it: World, path: Path) -> None:
    unknown = await asyncio.to_thread(ended, path, message(GOOD, flag=1), grpc_encoding="brotli")
    assert status(13) in unknown
    assert b"grpc-encoding" in unknown
    assert it.written == []


async def test_partial_messages_of_one_account_are_as_many_as_its_calls(it: World, path: Path) -> None:
    """Each holds what has come of its message: a quarter of a megabyte, of the megabyte that it claims."""
    made = RawConnection(path)
    part = message(b"\x0a" * (1 << 18), size=1 << 20)
    try:
        streams = [made.call(STREAM) for _ in range(8)]
        assert await asyncio.to_thread(lambda: [made.data(stream, part) for stream in streams]) == [len(part)] * 8
        refused = made.call(STREAM)
        assert status(8) in await asyncio.to_thread(made.trailers, refused)
    finally:
        made.close()
    await until(lambda: it.intake.queue_depth == 0)
    await served_again(path)


async def served_again(path: Path) -> None:
    """Return once the gateway has seen that a connection is gone, and its calls with it."""
    async with connected(path) as stub, asyncio.timeout(10):
        while True:
            try:
                await stub.PushMetrics(push(1, [1]), metadata=TOKEN)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_message_that_trickles_in_is_given_up(it: World, path: Path) -> None:
    made = RawConnection(path)
    try:
        stream = made.call(PUSH)
        made.data(stream, message(GOOD, size=1000))
        assert status(4) in await asyncio.to_thread(made.trailers, stream)
    finally:
        made.close()


async def test_calls_that_are_opened_and_reset_at_once(it: World, path: Path) -> None:
    def flood() -> None:
        made = RawConnection(path)
        try:
            for _ in range(3000):
                stream = made.call(PUSH)
                made._socket.sendall(frame(RST_STREAM, 0, stream, b"\0\0\0\x08"))
        except OSError:
            pass  # the gateway has closed the connection
        finally:
            made.close()

    await asyncio.to_thread(flood)
    async with connected(path) as stub:
        assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN, timeout=10)).accepted == 1


async def test_a_connection_that_is_cut_within_a_message_leaves_nothing(it: World, path: Path) -> None:
    for cut in range(1, len(message(GOOD)), 7):
        made = RawConnection(path)
        stream = made.call(STREAM)
        made.data(stream, message(GOOD)[:cut])
        made.close()
    good = RawConnection(path)
    stream = good.call(STREAM)
    good.data(stream, message(batch(1, [1]).SerializeToString()))
    await until(lambda: len(it.written) == 1)
    good.close()
