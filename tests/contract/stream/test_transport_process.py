"""How a worker's process ends: SIGTERM in the middle of a batch, and a batch that nobody works on."""

import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from app.local.servers.process import ChildProcess
from tests.contract.stream import faust_worker as fw
from tests.servers import KafkaServer
from tests.waiting import until

pytestmark = pytest.mark.integration
COMMAND = [
    sys.executable,
    "-m",
    "faust",
    "-A",
    "tests.contract.stream.faust_program",
    "worker",
    "-l",
    "warn",
    "--without-web",
]


class Program:
    def __init__(self, kafka: KafkaServer, topic: str, directory: Path, **env: str) -> None:
        self.file, self.begun = directory / "stored", directory / "stored.begun"
        given = {"TEST_BROKER": kafka.bootstrap, "TEST_TOPIC": topic, "TEST_FILE": str(self.file)}
        self.process = ChildProcess("worker", COMMAND, directory / "log", env=given | env)

    def stored(self) -> Counter[str]:
        return Counter(self.file.read_text().split("\n")[:-1]) if self.file.exists() else Counter()

    async def ended(self, seconds: float) -> int | None:
        await until(lambda: not self.process.alive(), seconds)
        return self.process.exit_code


EVERYTHING = Counter({f"{partition} {offset}": 1 for partition in (0, 1) for offset in range(20)})


async def test_sigterm_lets_a_running_write_end_and_commits_it(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 20, 1: 20})
    program = Program(kafka, unique, tmp_path, TEST_STORE="slow")
    program.process.start()
    try:
        await until(lambda: program.begun.exists() and program.begun.read_text() == "begin\nbegin\n", 20)
        program.process.signal(signal.SIGTERM)
        assert await program.ended(10) == 0, program.process.tail()
    finally:
        program.process.kill()
    assert program.stored() == EVERYTHING
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {0: 20, 1: 20}


async def test_sigterm_leaves_what_does_not_end_for_the_next_worker(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 20, 1: 20})
    program = Program(kafka, unique, tmp_path, TEST_STORE="never")
    program.process.start()
    try:
        await until(lambda: program.begun.exists(), 20)
        program.process.signal(signal.SIGTERM)
        assert await program.ended(10) == 0, program.process.tail()
        assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {}
        assert program.stored() == Counter()
        program = Program(kafka, unique, tmp_path)
        program.process.start()
        await until(lambda: len(program.stored()) == 40, 20)
        program.process.signal(signal.SIGTERM)
        assert await program.ended(10) == 0, program.process.tail()
    finally:
        program.process.kill()
    assert program.stored() == EVERYTHING


async def test_kill_9_in_mid_batch_loses_nothing(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 20, 1: 20})
    program = Program(kafka, unique, tmp_path, TEST_STORE="slow")
    program.process.start()
    try:
        await until(lambda: program.begun.exists(), 20)
    finally:
        program.process.kill()
    assert program.stored() == Counter()
    program = Program(kafka, unique, tmp_path)
    program.process.start()
    try:
        await until(lambda: len(program.stored()) == 40, 30)
    finally:
        program.process.stop((signal.SIGTERM, 10))


async def test_a_stuck_offset_ends_the_process_with_an_error(kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    await fw.make_topic(kafka.bootstrap, unique)
    await fw.produce(kafka.bootstrap, unique, {0: 20})
    program = Program(kafka, unique, tmp_path, TEST_LOSE="1")
    program.process.start()
    try:
        assert await program.ended(25) not in (0, None)
    finally:
        program.process.kill()
    assert "StuckOffsetError" in program.process.tail(200)
    assert f"{unique}-0: no progress" in program.process.tail(200)
    assert await fw.committed(kafka.bootstrap, f"iot-{unique}", unique) == {}
