"""Faults of the bridge's MQTT client id: the broker loses the session, or another client takes the client id."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable

from app.core.routing.client_ids import client_id
from tests.servers import GivenMqtt
from tests.workers import until
from tools.faults.mqtt import GONE, line
from tools.faults.rig import Rig
from tools.faults.servers import STRANGER

Undo = Callable[[], Awaitable[None]]

PAUSE = 0.1  # seconds between two of the stranger's connections
QUIET = 5  # consecutive checks that find no message for the bridge at the broker


async def lose_session(rig: Rig) -> Undo:
    """Stall Kafka so that acknowledged messages gather in the bridge, then delete the bridge's session at the broker.

    The broker's queue must be empty at that moment: queued messages are lost with the session.
    """
    proxy = rig.servers.links["kafka link"]
    proxy.stall()

    async def undo() -> None:
        rig.mqtt.free.clear()
        with contextlib.suppress(AssertionError):  # another fault keeps the bridge away; then the session stays
            await _all_in_the_bridge(rig)
            await _forget(rig)
        await proxy.heal()
        await rig.programs["bridge"].ready(60)
        rig.mqtt.free.set()

    return undo


async def _forget(rig: Rig) -> None:
    """Delete the session and wait until the bridge reconnects: without a session, published messages are lost."""
    bridge, name = rig.programs["bridge"], client_id(rig.site.settings.bridge_client_id, rig.site.mqtt.password)
    before = len(bridge.events("bridge_mqtt_connected"))

    async def back() -> bool:
        return len(bridge.events("bridge_mqtt_connected")) > before

    with contextlib.suppress(*GONE):
        async with line(rig.site.mqtt, name, kept=False):  # with a clean start
            pass
        await until(back, 60, lambda: f"{bridge.name} does not come back")


async def _all_in_the_bridge(rig: Rig) -> None:
    quiet, before = 0, ""

    async def received() -> bool:
        nonlocal quiet, before
        _, page = await rig.programs["bridge"].get("/metrics")
        held = re.search(r"^iot_bridge_in_flight (\S+)", page, re.MULTILINE)
        connected = "\niot_bridge_connected 1.0" in page and rig.mqtt.next == rig.mqtt.stream.sent
        quiet = quiet + 1 if connected and held and held[1] == before else 0
        before = held[1] if held else ""
        return quiet >= QUIET

    await until(received, 20, lambda: "the bridge does not receive the broker's messages")


async def take_client_ids(rig: Rig) -> Undo:
    """Connect under the configured client ids from another account, repeatedly."""
    mosquitto = rig.servers.mosquitto
    stranger = GivenMqtt(mosquitto.host, mosquitto.port, STRANGER, mosquitto.password_of(STRANGER))
    names = (rig.site.settings.bridge_client_id, rig.site.settings.notifier_client_id)

    async def take() -> None:
        while True:
            for name in names:
                with contextlib.suppress(*GONE):
                    async with line(stranger, name, kept=False):
                        await asyncio.sleep(PAUSE)
            await asyncio.sleep(PAUSE)

    taking = asyncio.create_task(take())

    async def undo() -> None:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)

    return undo
