"""The intake: an answer after the ack and not before, order, bounds, and an end that loses nothing answered."""

import asyncio
import random

import pytest
from prometheus_client import REGISTRY

from app.core.ingress.limits import IngressLimits
from app.core.model.records import Reason
from app.errors import TransientError
from app.gateways.intake import CHUNK_RECORDS, RECORD_OVERHEAD
from app.gateways.room import READ_BYTES
from app.ports import Account
from tests.unit.gateways.intake_world import IntakeWorld, record
from tests.waiting import until

ALICE = Account("alice")
TOPIC = b"users/alice/devices/d/telemetry"


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_an_answer_comes_after_the_ack_and_not_before() -> None:
    async with IntakeWorld() as world:
        world.writer.open.clear()
        answered = metric("iot_gateway_records_total", gateway="http")
        done = world.intake.submit([record("alice", "d", b"1"), record("alice", "d", b"2")])
        await asyncio.sleep(0.03)
        assert not done.done()
        assert world.intake.queue_depth == 2
        world.writer.open.set()
        assert await done == []
        assert [one.value for one in world.writer.written] == [b"1", b"2"]
        assert world.intake.queue_depth == 0
        assert metric("iot_gateway_records_total", gateway="http") == answered + 2
        last = world.intake.flushes.last
        assert last is not None
        assert last.rows == 2


async def test_a_key_keeps_its_order_over_all_submissions() -> None:
    chance = random.Random(1)
    async with IntakeWorld() as world:
        waiting = []
        for number in range(300):
            group = [record("alice", f"d{chance.randrange(5)}", b"%d" % (number * 10 + at)) for at in range(3)]
            waiting.append(world.intake.submit(group))
            if chance.random() < 0.1:
                await asyncio.sleep(0)
        assert all(result == [] for result in await asyncio.gather(*waiting))
        assert len(world.writer.written) == 900
        assert len(world.writer.chunks) < 150, "what comes while a chunk is under way goes together"
        by_key: dict[bytes, list[int]] = {}
        for one in world.writer.written:
            by_key.setdefault(one.key, []).append(int(one.value))
        assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_what_kafka_refuses_is_answered_to_its_own_sender_by_index() -> None:
    async with IntakeWorld() as world:
        world.writer.refused = {b"huge"}
        first = world.intake.submit([record("alice", "d", b"1"), record("alice", "d", b"huge"), record("alice", "d")])
        second = world.intake.submit([record("bob", "d", b"1")])
        ((index, rejection),) = await first
        assert (index, rejection.reason) == (1, Reason.PAYLOAD_TOO_LARGE)
        assert "dead letter" in rejection.error
        assert await second == []


async def test_dead_letters_are_written_alike() -> None:
    async with IntakeWorld() as world:
        assert await world.intake.submit([record("alice", "d", b"good")], [record("alice", "d", b"bad")]) == []
        assert await world.intake.submit([], [record("alice", "d", b"bad too")]) == []
        assert [one.value for one in world.writer.dead] == [b"bad", b"bad too"]
        assert await world.intake.submit([]) == []


async def test_a_sender_that_goes_away_takes_nothing_back_and_nobody_along() -> None:
    async with IntakeWorld() as world:
        world.writer.open.clear()
        gone, stays = world.intake.submit([record("a", "d", b"1")]), world.intake.submit([record("b", "d", b"2")])
        gone.cancel()
        world.writer.open.set()
        assert await stays == []
        assert [one.value for one in world.writer.written] == [b"1", b"2"]


async def test_it_is_full_by_bytes_and_readers_go_on_one_after_another() -> None:
    size = 64 << 10
    async with IntakeWorld(max_bytes=8 * (size + RECORD_OVERHEAD)) as world:
        world.writer.open.clear()
        await world.intake.room()
        waiting = [world.intake.submit([record(f"u{number}", "d", bytes(size))]) for number in range(8)]
        assert world.intake.full
        assert metric("iot_gateway_full") == 1.0
        readers = [asyncio.create_task(world.intake.room()) for _ in range(100)]
        await asyncio.sleep(0.01)
        assert not any(reader.done() for reader in readers)
        world.writer.open.set()
        await asyncio.gather(*waiting)
        await asyncio.sleep(0)
        went_on = sum(reader.done() for reader in readers)
        assert 1 <= went_on <= 8 * (size + RECORD_OVERHEAD) // READ_BYTES, "no more than there is room for"
        await asyncio.wait_for(asyncio.gather(*readers), 5)  # though the readers that went on had nothing to bring in
        assert not world.intake.full


async def test_one_user_does_not_take_all_the_room() -> None:
    size = 10_000
    bound = 100 * (size + RECORD_OVERHEAD)
    async with IntakeWorld(max_bytes=bound) as world:
        world.writer.open.clear()
        taken = 0
        while world.intake.over_limit(ALICE, TOPIC, size) is None:
            taken += 1
            assert taken <= 100
            world.intake.submit([record("alice", "d", bytes(size))])
        assert 50 <= taken <= 52, "half of it is anybody's"
        limited = world.intake.over_limit(ALICE, TOPIC, size)
        assert limited is not None
        assert limited.retry_after > 0
        assert world.intake.over_limit(Account("bob"), b"users/bob/devices/d/telemetry", size) is None
        assert not world.intake.full
        world.writer.open.set()
        await until(lambda: world.intake.queue_depth == 0)
        assert world.intake.over_limit(ALICE, TOPIC, size) is None


async def test_an_account_that_sends_for_many_has_the_share_of_one() -> None:
    size, sidecar = 10_000, Account("sidecar")
    async with IntakeWorld(max_bytes=100 * (size + RECORD_OVERHEAD)) as world:
        world.writer.open.clear()
        for number in range(51):
            assert not world.intake.crowded(sidecar)
            world.intake.submit([record(f"node{number}", "d", bytes(size))], user="sidecar")
        assert world.intake.crowded(sidecar)
        assert world.intake.over_limit(sidecar, b"users/node99/devices/d/telemetry", size) is not None
        assert world.intake.over_limit(Account("node1"), b"users/node1/devices/d/telemetry", size) is None
        world.writer.open.set()
        await until(lambda: world.intake.queue_depth == 0)
        assert not world.intake.crowded(sidecar)


async def test_limits_of_accounts_and_devices_say_when_there_is_room() -> None:
    async with IntakeWorld(limits=IngressLimits(device_messages=10, burst=1)) as world:
        answers = [world.intake.over_limit(ALICE, TOPIC, 10) for _ in range(11)]
        assert answers[:10] == [None] * 10
        over = answers[10]
        assert over is not None
        assert "IOT_INGRESS_DEVICE_MESSAGES" in over.detail
        assert 0 < over.retry_after <= 0.11
        assert world.intake.over_limit(ALICE, TOPIC.replace(b"/d/", b"/e/"), 10) is None


async def test_at_the_end_what_was_taken_is_written_and_nothing_more_is_taken() -> None:
    world = IntakeWorld()
    async with world:
        waiting = [world.intake.submit([record("alice", "d", b"%d" % number)]) for number in range(50)]
        await world.end()
        assert [await one for one in waiting] == [[]] * 50
        assert len(world.writer.written) == 50
        with pytest.raises(TransientError, match="stops"):
            await world.intake.submit([record("alice", "d")])
        assert world.writer.closed


async def test_what_kafka_does_not_take_in_time_is_answered_to_nobody() -> None:
    world = IntakeWorld(max_bytes=1000)
    async with world:
        world.writer.open.clear()
        waiting = [world.intake.submit([record("alice", "d", bytes(600))]) for _ in range(3)]
        reader = asyncio.create_task(world.intake.room())
        await asyncio.sleep(0.01)
        await world.end()
        for one in waiting:
            with pytest.raises(TransientError, match="stops"):
                await one
        await asyncio.wait_for(reader, 1)


async def test_a_bug_in_writing_ends_it_and_leaves_nobody_waiting() -> None:
    world = IntakeWorld()
    async with world:
        world.writer.broken = AssertionError("a bug")
        done = world.intake.submit([record("alice", "d")])
        with pytest.raises(TransientError):
            await done
        with pytest.raises(AssertionError, match="a bug"):
            await world.end()


async def test_a_chunk_is_bounded_but_holds_one_submission_at_least() -> None:
    async with IntakeWorld(max_bytes=1 << 30) as world:
        world.writer.open.clear()
        large = [record("alice", "d", b"x") for _ in range(CHUNK_RECORDS + 1000)]
        waiting = [world.intake.submit(large), *(world.intake.submit(large[:3000]) for _ in range(3))]
        world.writer.open.set()
        await asyncio.gather(*waiting)
        assert world.writer.chunks == [0, CHUNK_RECORDS + 1000, 6000, 3000]
