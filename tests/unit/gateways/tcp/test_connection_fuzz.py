"""Whatever comes on a connection, cut wherever: every line is answered once, in order, and nothing is raised."""

import asyncio
import json
import random
from typing import cast

import pytest

from app.core.ingress.limits import IngressLimits
from app.gateways.admission import Admission
from app.gateways.intake import Intake
from app.gateways.listener import AccountSeats, Seat
from app.gateways.tcp.connection import TcpConnection
from app.gateways.tcp.lines import LineTaker
from app.gateways.tcp.parts import ReadBuffer, TcpParts, bounds_of
from app.gateways.writer import KafkaWriter
from app.settings import Settings
from tests.contract.gateways.tcp.serving import KnownAccounts, MemoryWriter, event
from tests.fuzzing import INPUTS, broken

SEEDS = [
    event(1) + event(2) + b"\n" + event(3, "d2"),
    b'{"node_id":"alice","sensor_id":"s","value":1}\r\n' + event(4),
    b'{"user_id":"bob","device_id":"d1","sequence_id":1,"timestamp":1}\n' + event(5, note="\u00e9\ud83d\ude00"),
    b'{"device_id":"' + b"d" * 900 + b'"}\n' + event(6),
]
TOKENS = [
    *[b"\n", b"\r\n", b"\n\n", b" ", b"{", b"}", b"[", b'"', b"\\", b",", b":", b"\0", b"\xff", b"\xed\xa0\x80"],
    *[b"NaN", b"1e999", b"null", b"-", b"\\ud800", b"\\u0000", b"[" * 200, b"9" * 400, b"../", b"+", b"#"],
    *[b'"user_id":"bob",', b'{"user":"a","password":"b"}\n', b'"traceparent":"00-",', b"x" * 3000],
]


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.closed = False

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        self.said += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is none."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Whoever feeds asks the connection."""

    resume_reading = write_eof = pause_reading

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


@pytest.mark.fuzz
async def test_each_line_is_answered_once() -> None:
    settings = Settings(tcp_line_max_bytes=2000, tcp_unacked_bytes=3000)
    chance = random.Random(7)
    writer = MemoryWriter()
    intake = Intake(cast(KafkaWriter, writer), 1 << 20, Admission(IngressLimits()))
    ended = asyncio.Event()
    writing = asyncio.create_task(intake.run(ended, 1.0))
    accepted = refused = 0
    batch = [b"".join(part) for part in _batches(list(broken(SEEDS, TOKENS, INPUTS, seed=21)), 50)]
    for stream in batch:
        lines, refusals = await _sent(settings, intake, stream, chance)
        accepted += lines - refusals
        refused += refusals
    ended.set()
    await writing
    assert min(accepted, refused) > INPUTS / 2
    assert len(writer.records) <= accepted  # blank lines are accepted too


def _batches(inputs: list[bytes], size: int) -> list[list[bytes]]:
    return [inputs[at : at + size] for at in range(0, len(inputs), size)]


async def _sent(settings: Settings, intake: Intake, stream: bytes, chance: random.Random) -> tuple[int, int]:
    """Send it in pieces on a connection of its own; how many lines it has, and how many were refused."""
    accounts, transport = KnownAccounts(), MemoryTransport()
    parts = TcpParts(
        bounds_of(settings),
        intake,
        accounts,
        AccountSeats(1),
        LineTaker(settings, intake),
        ReadBuffer(),
        _nothing,
        _nothing,
        lambda: None,
    )
    connection = TcpConnection(parts, cast(Seat, _Seat()))
    connection.connection_made(transport)
    _feed(connection, b'{"token":"token-of-alice"}\n')
    at = 0
    while at < len(stream):
        if not connection._wire.reading:
            await asyncio.sleep(0)
            continue
        piece = stream[at : at + chance.choice((1, 10, 100, 1000, 5000))]
        at += len(piece)
        _feed(connection, piece)
    connection.eof_received()
    async with asyncio.timeout(20):
        while not transport.closed:  # noqa: ASYNC110 - the transport is no task
            await asyncio.sleep(0)
    connection.connection_lost(None)
    first, *answers = [json.loads(line) for line in transport.said.splitlines()]
    assert first == {"ok": True}
    lines = stream.count(b"\n") + (not stream.endswith(b"\n") and bool(stream))
    acks = [one["acked"] for one in answers if "acked" in one]
    assert acks == sorted(acks)
    assert acks[-1] == lines, stream
    last, numbers = 0, [one["line"] for one in answers if "line" in one]
    assert numbers == sorted(set(numbers))
    for answer in answers:
        if "acked" in answer:
            last = answer["acked"]
        else:
            assert last < answer["line"] <= lines
            assert answer["error"].isprintable()
    return lines, len(numbers)


def _feed(connection: TcpConnection, piece: bytes) -> None:
    connection.get_buffer(len(piece))[: len(piece)] = piece
    connection.buffer_updated(len(piece))


def _nothing(_: object) -> None:
    """Nobody counts."""


class _Seat:
    peer = "127.0.0.1"

    def free(self) -> None:
        """Nobody waits for it."""
