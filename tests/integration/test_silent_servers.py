"""A server that takes connections and never answers: a command says so in one line; Ctrl-C ends it at once."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.unit.deadletters.letters import held
from tools.command import ROOT, Done

pytestmark = pytest.mark.integration

WORDS = (
    "dlq ls", "dlq show", "dlq export", "dlq import FILE --yes", "dlq replay", "dlq replay --yes",
    "dlq replay --to mqtt --yes", "dlq purge --all --yes",
    "history reset --to-earliest", "history reset --to-earliest --yes", "history replay --into again",
    "history replay --into again --yes", "history verify", "history export --output OUT.csv",
    "history export --output OUT/", "history export --from table --output OUT.csv",
    "load --users 1 --duration 1", "load --users 1 --duration 1 --database-url postgresql://iot@HOST/iot",
)  # fmt: skip


class SilentServer:
    """Takes connections, reads, and says nothing."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1 << 16):
                self.asked.set()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def run(words: str, port: int, directory: Path, interrupt: asyncio.Event | None = None, **more: str) -> Done:
    """Run a command, and send it SIGINT once `interrupt` is set; None: let it end by itself."""
    settings = {
        "KAFKA_BROKER": f"127.0.0.1:{port}", "MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(port),
        "DATABASE_URL": f"postgresql://iot@127.0.0.1:{port}/iot", "LOCAL_DIR": str(directory), **more,
    }  # fmt: skip
    named = {f"IOT_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *words.split(), cwd=ROOT, env={**os.environ, **named},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            if interrupt is not None:
                await interrupt.wait()
                process.send_signal(signal.SIGINT)
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), error.decode())


def filled(words: str, directory: Path, port: int) -> str:
    file = directory / "letters.jsonl"
    file.write_bytes((held(b"{").value or b"") + b"\n")
    return words.replace("FILE", str(file)).replace("OUT", str(directory / "out")).replace("HOST", f"127.0.0.1:{port}")


def written(directory: Path) -> list[str]:
    """The files that an export has left, halves of them too."""
    return [path.name for path in directory.glob("out*.csv*")]


@pytest.mark.parametrize("words", WORDS)
async def test_a_command_that_waits_for_a_first_answer_ends_at_once(words: str, tmp_path: Path) -> None:
    server = SilentServer()
    async with server.listening():
        done = await run(filled(words, tmp_path, server.port), server.port, tmp_path, server.asked)
    assert done.code == 130, done
    assert "Traceback" not in done.error
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    "words", [words for words in WORDS if "--yes" in words or words.startswith(("load", "dlq export"))]
)
async def test_so_does_one_that_writes_its_first_audit_line(words: str, tmp_path: Path) -> None:
    server = SilentServer()
    audit = {"AUDIT_TOPIC": "audit", "AUDIT_FILE": str(tmp_path / "audit.jsonl")}
    async with server.listening():
        done = await run(filled(words, tmp_path, server.port), server.port, tmp_path, server.asked, **audit)
    assert done.code == 130, done
    assert "Traceback" not in done.error
    if words.startswith(("load", "dlq export")):  # the others ask Kafka first what there is to do
        assert json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[0])["phase"] == "begin"


@pytest.mark.timeout(180)
async def test_without_ctrl_c_one_line_says_which_server_is_silent(tmp_path: Path) -> None:
    server = SilentServer()
    asked = [f"{words} --timeout 1" if "replay" in words or "import" in words else words for words in WORDS]
    async with server.listening():
        for at in range(0, len(asked), 6):  # each waits ten seconds or more for its server
            part = asked[at : at + 6]
            ended = await asyncio.gather(
                *(run(filled(one, tmp_path, server.port), server.port, tmp_path) for one in part)
            )
            for words, done in zip(part, ended, strict=True):
                assert done.code == 1, (words, done)
                assert "Traceback" not in done.error, words
                last = done.error.splitlines()[-1]
                assert last.startswith("iot-stream: "), (words, done)
                assert any(name in last for name in (f"127.0.0.1:{server.port}", "the database")), (words, last)
    assert written(tmp_path) == []
