"""Faults: how to inflict and how to undo each kind."""

import asyncio
import contextlib
import os
import signal

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.workers import until
from tools.faults.begun_anew import begin_anew
from tools.faults.identity import Undo, lose_session, take_client_ids
from tools.faults.rig import Rig, tree
from tools.faults.schedule import (
    CLIENT_FAULTS,
    CLOCK,
    DESTINATION,
    ID_TAKEN,
    LINKS,
    OFFSETS,
    REPEATS,
    SESSION_LOST,
    SLOW,
    TOPIC,
    Fault,
)
from tools.faults.servers import start
from tools.faults.ways.mischief import half_open_clients, slow_clients

DELAYS = (0.05, 0.5)  # seconds, each way
JUMP = 3600  # maximum jump of a clock in seconds, forward or back
SAVED = 2.5  # seconds after which Mosquitto has saved its messages (Mosquitto saves every second)


async def inflict(rig: Rig, fault: Fault) -> Undo:
    """Inflict a fault; out, the function that undoes the fault.

    Raises AssertionError when a program had ended by itself.
    """
    target, action = fault.kind
    if target in LINKS:
        return await _hurt_link(rig, fault)
    if action in OFFSETS:
        return await begin_anew(rig, fault)
    if target == TOPIC:
        return await _delete_records(rig)
    if action == SESSION_LOST:
        return await lose_session(rig)
    if action == ID_TAKEN:
        return await take_client_ids(rig)
    if action == CLOCK:
        return _jump(rig, fault)
    if action in CLIENT_FAULTS:
        return await _misbehave(rig, fault)
    if action.startswith(DESTINATION):
        return await _hurt_destination(rig, fault)
    if target in rig.programs:
        return await _hurt_program(rig, fault)
    return await _hurt_server(rig, fault)


async def _misbehave(rig: Rig, fault: Fault) -> Undo:
    """Add misbehaving clients of a gateway beside the audited sender, or let the audited sender repeat batches."""
    way, action = fault.kind
    if action != REPEATS:
        return await (slow_clients if action == SLOW else half_open_clients)(way, rig.door)
    pace = rig.ways[way]
    pace.again = True

    async def undo() -> None:
        pace.again = False

    return undo


async def _hurt_destination(rig: Rig, fault: Fault) -> Undo:
    where, how = rig.sinks[fault.kind.target], fault.kind.action.removeprefix(DESTINATION)
    await where.leave(how)

    async def undo() -> None:
        await where.come_back(how)

    return undo


async def _hurt_link(rig: Rig, fault: Fault) -> Undo:
    proxy = rig.servers.links[fault.kind.target]
    match fault.kind.action:
        case "cut":
            await proxy.cut()
        case "reset":
            await proxy.reset()
        case "stall":
            proxy.stall()
        case "half-open":
            proxy.half_open(up=fault.lot < 0.5)
        case "delay":
            proxy.delay(DELAYS[0] + fault.lot * (DELAYS[1] - DELAYS[0]))
    return proxy.heal


async def _hurt_program(rig: Rig, fault: Fault) -> Undo:
    one = rig.programs[fault.kind.target]
    if fault.kind.action == "freeze":
        assert one.alive, f"{one.name} ended by itself:\n{one.tail()}"
        return _freeze([one.pid])
    if fault.kind.action == "restart":
        await asyncio.to_thread(one.stop)
    else:
        one.kill()

    async def undo() -> None:
        if fault.lot < 0.5:  # the program restarts on another machine, without its local state
            one.forget()
        one.start()

    return undo


async def _hurt_server(rig: Rig, fault: Fault) -> Undo:
    name = fault.kind.target
    server = rig.servers.by_name[name]
    if fault.kind.action == "freeze":
        return _freeze(tree(server.pid))
    held = await _hold_mqtt(rig) if (name, fault.kind.action) == ("Mosquitto", "kill -9") else None
    if fault.kind.action == "restart":
        await asyncio.to_thread(server.stop)
    else:
        await asyncio.to_thread(server.kill)

    async def undo() -> None:
        await asyncio.to_thread(start, server)
        if held:
            await held()

    return undo


def _freeze(pids: list[int]) -> Undo:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

    async def undo() -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return undo


async def _hold_mqtt(rig: Rig) -> Undo:
    """Empty Mosquitto's unsaved memory: a kill -9 loses the messages acknowledged in the last second."""
    rig.mqtt.free.clear()
    notifier = rig.programs["notifier"]
    go_on = _freeze([notifier.pid] if notifier.alive else [])

    async def passed_on() -> bool:
        return rig.tail.has(rig.mqtt.stream) and rig.mqtt.next == rig.mqtt.stream.sent

    await until(passed_on, 60, lambda: "the bridge does not forward Mosquitto's queued messages")
    await asyncio.sleep(SAVED)

    async def undo() -> None:
        await go_on()
        rig.mqtt.free.set()

    return undo


def _jump(rig: Rig, fault: Fault) -> Undo:
    clock = rig.clocks[fault.kind.target]
    clock.jump(int((fault.lot * 2 - 1) * JUMP))

    async def undo() -> None:
        clock.jump(0)

    return undo


async def _delete_records(rig: Rig) -> Undo:
    """Delete records as a full topic's retention does, up to the offset that all groups and the auditor have read."""
    topic = rig.site.settings.kafka_topic
    committed = await rig.site.committed()
    for group in rig.sink_groups.values():
        other = await rig.site.committed(group=group)
        committed = {partition: min(offset, other.get(partition, 0)) for partition, offset in committed.items()}
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.site.kafka)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(topic, partition): RecordsToDelete(min(offset, rig.tail.next.get(partition, 0)))
                for partition, offset in committed.items()
            }
        )
    finally:
        await admin.close()

    async def undo() -> None:
        return None

    return undo
