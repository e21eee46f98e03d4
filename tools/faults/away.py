"""Servers under faults: killed or frozen, then started or thawed with the same data and address."""

import asyncio
from dataclasses import dataclass

import psutil

from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import Mosquitto
from app.local.servers.postgres import Postgres
from app.local.servers.process import ChildProcess


@dataclass
class Servers:
    """The servers that faults may kill or freeze."""

    kafka: Kafka
    postgres: Postgres
    mosquitto: Mosquitto


def leave(process: ChildProcess, how: str) -> None:
    """Kill a process with SIGKILL, or freeze the process and its children."""
    if how == "killed":
        process.kill()
    else:
        for each in family(process):
            each.suspend()


def family(process: ChildProcess) -> list[psutil.Process]:
    """A process and its children; PostgreSQL's children run in sessions of their own."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


async def come_back(server: Kafka | Postgres | Mosquitto, how: str) -> None:
    """Bring a server back with the same data and address; returns when the server is ready."""
    if how == "frozen":
        for each in family(server.process):
            each.resume()
    else:
        server.start()
        await asyncio.to_thread(server.wait_ready)
