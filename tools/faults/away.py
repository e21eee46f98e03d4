"""Servers that may be hurt: left by killing or freezing them, and brought back on the same data and address."""

import asyncio
from dataclasses import dataclass

import psutil

from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import Mosquitto
from app.local.servers.postgres import Postgres
from app.local.servers.process import ChildProcess


@dataclass
class Servers:
    """Servers that may be hurt."""

    kafka: Kafka
    postgres: Postgres
    mosquitto: Mosquitto


def leave(process: ChildProcess, how: str) -> None:
    """Kill -9, or freeze with all its children."""
    if how == "killed":
        process.kill()
    else:
        for each in family(process):
            each.suspend()


def family(process: ChildProcess) -> list[psutil.Process]:
    """It and its children: PostgreSQL's have sessions of their own."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


async def come_back(server: Kafka | Postgres | Mosquitto, how: str) -> None:
    """On the same data and address; returns once it is ready."""
    if how == "frozen":
        for each in family(server.process):
            each.resume()
    else:
        server.start()
        await asyncio.to_thread(server.wait_ready)
