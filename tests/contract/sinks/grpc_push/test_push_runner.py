"""The runner with the sink grpc and a real gRPC server, at random: each reading is taken in order, or a dead letter."""

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import pytest
from grpc import StatusCode

from app.protobuf.events_pb2 import Event
from app.sinks.grpc_push.sink import GrpcPushSink
from app.sinks.running.clients import SinkKafka
from app.sinks.running.runner import SinkRunner
from tests.receivers.grpc_receiver import Acks, Ends, GrpcReceiver, Item, Step, grpc_receiver
from tests.unit.sinks.running.world import LogConsumer, World

Name = tuple[int, int]  # partition, sequence_id


class PushWorld(World):
    """A log, a gRPC receiver, and one process at a time that runs a sink between them."""

    def __init__(self, receiver: GrpcReceiver, **settings: Any) -> None:
        self.receiver = receiver
        target = {"grpc_push_target": receiver.target, "grpc_push_flush_ms": 1, "grpc_push_timeout": 2.0}
        super().__init__(2, **target, **settings)

    def start(self) -> None:
        self.stop = asyncio.Event()
        self.consumer = LogConsumer(self.settings, self.log, self.stop)
        self.push = GrpcPushSink("fake", self.settings)
        kafka: Any = self.consumer, self.letters, self.series
        self.runner = SinkRunner(self.settings, self.push, self.stop, SinkKafka(*kafka))
        self.task = asyncio.create_task(self.runner.run())

    def taken(self) -> set[Name]:
        return {name(item) for item in self.receiver.taken}


def name(item: Item) -> Name:
    assert isinstance(item, Event)
    return int(item.user_id[1:]), item.sequence_id


def jumped(items: Iterable[Item], without: set[Name]) -> list[Name]:
    """Readings that arrived before an earlier reading of their device; a repeat resets the device's position."""
    last: dict[tuple[int, int], int] = {}
    found = []
    for partition, number in map(name, items):
        device = partition, number % 10
        before = last.get(device, number % 10 - 10)
        if {(partition, one) for one in range(before + 10, number, 10)} - without:
            found.append((partition, number))
        last[device] = number
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_each_is_taken_in_order_or_a_dead_letter(seed: int) -> None:
    chance = random.Random(seed)
    never = {(partition, n) for partition in (0, 1) for n in range(2000) if chance.random() < 0.01}
    ways = {one: chance.randrange(4) for one in sorted(never)}

    def rejects(items: list[Item]) -> Step | None:
        places = {name(item): place for place, item in enumerate(items)}
        found = sorted(places.keys() & never)
        for one in found:
            if ways[one] == 0:
                return Acks(raises=ValueError("no such thing"))
            if ways[one] == 1:
                return Ends(StatusCode.INVALID_ARGUMENT)
            if ways[one] == 2:
                return Acks(refusal=("malformed", 0))
        return Acks({places[one]: "bad_id" for one in found}) if found else None

    def judge(items: list[Item]) -> Step | None:
        if chance.random() < 0.1:
            status = chance.choice((StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED))
            return Ends(status, taken=chance.random() < 0.5 and not rejects(items))
        return Acks(refusal=("busy", 10)) if chance.random() < 0.05 else rejects(items)

    async with grpc_receiver(judge=judge) as receiver:
        most = {"grpc_push_batch": chance.choice((1, 7, 50)), "grpc_push_window": chance.choice((1, 3, 8))}
        world = PushWorld(receiver, **most)
        await world.consumer.assign(0, 1)
        try:
            for _ in range(40):
                world.log.append(chance.randrange(2), chance.randrange(1, 25))
                match chance.randrange(8):
                    case 0:
                        await world.kill()
                        world.start()
                        await world.consumer.assign(0, 1)
                    case 1:
                        await world.consumer.assign(chance.randrange(2))
                    case 2:
                        await world.consumer.assign(0, 1)
                await asyncio.sleep(chance.uniform(0, 0.03))
            await world.consumer.assign(0, 1)
            receiver.judge = rejects
            for _ in range(500):
                if world.all_committed():
                    break
                world.log.append(chance.randrange(2), 1)  # other devices, which show that the receiver is available
                await asyncio.sleep(0.02)
            receiver.judge = lambda items: Acks({place: "bad" for place, one in enumerate(items) if name(one) in never})
            await world.done(20)
        finally:
            await world.kill()
        places = world.log.places()
        assert world.taken() >= places - never
        assert set(world.letters.sent) <= never
        assert world.taken() | set(world.letters.sent) >= places
        assert jumped(receiver.taken, never) == []
