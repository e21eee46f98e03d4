"""The receivers of docs/sinks.md, as programs, with the sinks that push to them."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.local.servers.common import free_port
from app.settings import Settings
from app.sinks.feed.sink import FeedSink
from app.sinks.grpc_push.sink import GrpcPushSink
from app.sinks.port import SinkUnavailable
from tests.receivers.readings import pushed
from tools.documents import DOCS, ROOT

RECORDS = [pushed(1), pushed(2, "press", user="plant", node=True, temperature=None, value=4.25)]


def program(section: str) -> str:
    """The Python of a section of the page."""
    text = (DOCS / "sinks.md").read_text().partition(f"\n## {section}\n")[2]
    (code, *_) = re.findall(r"```python\n(.+?)```", text, re.S)
    return str(code)


@contextmanager
def running(section: str, log: Path, port: int, **environment: str) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program(section)],
            env={"PORT": str(port), "PYTHONPATH": str(ROOT), **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def opened(sink: FeedSink | GrpcPushSink) -> None:
    """Return once the program listens."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await sink.open()
            except SinkUnavailable:
                await asyncio.sleep(0.1)


async def test_the_http_receiver_prints_each_reading_once(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}/"
    with running("http_feed", log, port, FEED_TOKEN="t-1"):
        sink = FeedSink("feed", Settings(feed_url=url, feed_token="t-1"))
        await opened(sink)
        for _ in range(2):
            sink.add(RECORDS)
            await sink.flush()
        await sink.close()
    assert log.read_text().splitlines() == [
        "users u d 2026-11-30T10:00:01Z 1 21.5",
        "iot plant press 2026-11-30T10:00:02Z 2 None",
    ]


async def test_the_grpc_receiver_prints_what_it_acknowledges(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with running("grpc", log, port):
        sink = GrpcPushSink("push", Settings(grpc_push_target=f"127.0.0.1:{port}"))
        await opened(sink)
        sink.add(RECORDS)
        await sink.flush()
        assert sink.held.records == 0
        await sink.close()
    assert sorted(log.read_text().splitlines()) == ["iot plant press 2 4.25", "users u d 1 21.5"]
