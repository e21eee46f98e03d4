"""`iot-stream dlq replay` that is killed, stopped, or left without Kafka in the middle: every letter is counted."""

import asyncio
import json
import signal
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from app.deadletters.sole_replay import RunsAlreadyError, sole_replay
from app.kafka.access import Access
from app.local.servers.kafka import Kafka
from tests.integration.dlq_rig import Rig, numbered, numbers
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration

COUNT = 30_000
CHUNK = 5_000


@pytest.fixture
async def rig(kafka: KafkaServer, unique: str) -> Rig:
    made = Rig(kafka.bootstrap, unique, {})
    await made.prepare()
    return made


async def test_kill_9_of_the_command_loses_nothing_and_repeats_what_nobody_knew_of(rig: Rig) -> None:
    await rig.write(numbered(COUNT, broken=500))
    words = ("replay", "--user", "u1", "--yes", "--json")
    for begun in (1, 6_000):
        async with rig.running(*words, "--rate", "8000") as process:
            await rig.arrived(begun)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
    await rig.write(numbered(10))  # of the next replay
    done = (await rig.dlq(*words)).json
    assert (done["resumed"], done["left"]) == (True, 0)
    found = Counter(numbers(await rig.read()))
    assert sorted(found) == list(range(COUNT))
    assert sum(found.values()) - COUNT <= 2 * CHUNK, "no more than the chunk under way at each kill"
    assert done["replayed"] + done["put_back_before"] == COUNT
    assert (await rig.dlq(*words)).json["replayed"] == 10


async def test_ctrl_c_ends_it_after_the_chunk_and_it_goes_on_without_a_repeat(rig: Rig) -> None:
    await rig.write(numbered(3_000))
    words = ("replay", "--yes", "--json")
    async with rig.running(*words, "--rate", "500") as process:
        await rig.arrived(400)
        process.send_signal(signal.SIGINT)
        out, error = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 130, error
    stopped = json.loads(out)
    assert 400 <= stopped["replayed"] < 3_000
    assert stopped["left"] == 3_000 - stopped["replayed"]
    done = (await rig.dlq(*words)).json
    assert (done["resumed"], done["replayed"]) == (True, 3_000 - stopped["replayed"])
    assert sorted(numbers(await rig.read())) == list(range(3_000))


async def test_the_same_command_begun_twice_puts_every_letter_back_once(rig: Rig) -> None:
    await rig.write(numbered(3_000))
    words = ("replay", "--yes", "--json")
    async with rig.running(*words, "--rate", "1000") as one, rig.running(*words, "--rate", "1000") as other:
        ended = await asyncio.wait_for(asyncio.gather(one.communicate(), other.communicate()), 60)
        codes = [one.returncode, other.returncode]
        assert sorted(codes, key=str) == [0, 2], ended
    refused, done = ended[codes.index(2)], ended[codes.index(0)]
    first = (one, other)[codes.index(0)].pid
    line = refused[1].decode()
    assert line.startswith(f"iot-stream: the same replay runs already, as process {first} on "), line
    assert (line.count("\n"), refused[0]) == (1, b"")
    assert (json.loads(done[0])["replayed"], json.loads(done[0])["left"]) == (3_000, 0)
    assert sorted(numbers(await rig.read())) == list(range(3_000))
    assert (await rig.dlq(*words)).json["replayed"] == 0, "the group is free again at once"


async def test_one_that_commits_while_others_come_and_go_stays_the_leader(rig: Rig) -> None:
    """Each that comes has the leader join the group again; a commit in the middle of that would name the generation
    before.
    """
    kafka, topic, group = Access(rig.kafka), str(rig.values["kafka_dlq_topic"]), f"{rig.unique}-sole"
    async with sole_replay(kafka, group, topic, asyncio.Event()) as sole:

        async def commit() -> None:
            for offset in count():
                await sole.commit({TopicPartition(topic, 0): (offset, "")})

        committing = asyncio.create_task(commit())
        for _ in range(8):
            with pytest.raises(RunsAlreadyError):
                async with sole_replay(kafka, group, topic, asyncio.Event()):
                    pass
        assert (committing.done(), sole.lost, sole.stop.is_set()) == (False, False, False), committing
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing


async def test_one_that_was_stopped_for_longer_than_its_session_sends_nothing_more(rig: Rig) -> None:
    await rig.write(numbered(3_000))
    words = ("replay", "--yes", "--json")
    async with rig.running(*words, "--rate", "500") as stalled:
        await rig.arrived(500)
        stalled.send_signal(signal.SIGSTOP)
        done = (await rig.dlq(*words)).json
        assert (done["resumed"], done["left"]) == (True, 0)
        stalled.send_signal(signal.SIGCONT)
        _, error = await asyncio.wait_for(stalled.communicate(), 60)
        assert (stalled.returncode, "may have let another one begin" in error.decode()) == (1, True), error
    found = Counter(numbers(await rig.read()))
    assert sorted(found) == list(range(3_000))
    assert sum(found.values()) - 3_000 <= 100, "no more than the chunk that was under way"
    assert (await rig.dlq(*words)).json["replayed"] == 0, "nor has it set the offsets back"


async def test_kill_9_of_kafka_loses_nothing_and_one_that_stays_away_is_one_line(unique: str, server_dir: Path) -> None:
    server = Kafka(server_dir)
    server.start()
    try:
        await asyncio.to_thread(server.wait_ready)
        waited, impatient = (Rig(server.bootstrap, f"{unique}{name}", {}) for name in "ab")
        for rig, count in ((waited, COUNT), (impatient, 2_000)):
            await rig.prepare()
            await rig.write(numbered(count))
        async with (
            waited.running("replay", "--yes", "--json", "--rate", "15000") as process,
            impatient.running("replay", "--yes", "--rate", "200", "--timeout", "1") as hasty,
        ):
            await waited.arrived(5_000)
            await impatient.arrived(100)
            server.kill()
            _, error = await asyncio.wait_for(hasty.communicate(), 60)
            assert hasty.returncode == 1, error
            assert error.decode().splitlines()[-1].startswith("iot-stream: ")
            server.start()
            await asyncio.to_thread(server.wait_ready)
            out, error = await asyncio.wait_for(process.communicate(), 90)
            assert process.returncode == 0, error
        assert json.loads(out)["left"] == 0
        found = Counter(numbers(await waited.read()))
        assert sorted(found) == list(range(COUNT))
        assert sum(found.values()) - COUNT <= CHUNK
        assert (await impatient.dlq("replay", "--yes", "--json")).json["left"] == 0
        assert sorted(set(numbers(await impatient.read()))) == list(range(2_000))
    finally:
        server.stop()
