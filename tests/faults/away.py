"""Servers that may be hurt: left by killing or freezing them, and brought back on the same data and address."""

import asyncio
import signal
from dataclasses import dataclass

from app.local.kafka import Kafka
from app.local.mosquitto import Mosquitto
from app.local.postgres import Postgres
from app.local.process import Process


@dataclass
class Servers:
    """Servers that may be hurt."""

    kafka: Kafka
    postgres: Postgres
    mosquitto: Mosquitto


def leave(process: Process, how: str) -> None:
    """Kill -9, or freeze with all its children."""
    if how == "killed":
        process.kill()
    else:
        process.signal(signal.SIGSTOP, group=True)


async def come_back(server: Kafka | Postgres | Mosquitto, how: str) -> None:
    """On the same data and address; returns once it is ready."""
    if how == "frozen":
        server.process.signal(signal.SIGCONT, group=True)
    else:
        server.start()
        await asyncio.to_thread(server.wait_ready)
