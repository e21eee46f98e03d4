"""Faults by a fixed schedule, each link and server once, while messages flow: every message is accounted for.

`python -m tools.faults` does the same at random, with more of everything; IOT_FAULTS=full does so in this test.
"""

import os
from pathlib import Path

import pytest

from app.local.layout import WAYS
from tests.servers import server_directory
from tools.faults.clocks import available
from tools.faults.report import machine, summary, table
from tools.faults.run import run
from tools.faults.schedule import Fault, Kind, kinds, schedule
from tools.faults.sinks.destinations import HURTS

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(900)]

FULL = os.environ.get("IOT_FAULTS") == "full"
SEED, MESSAGES = 11, 20_000
CHOSEN = [
    Fault(Kind("kafka link", "half-open"), 1.0, 0.2, together=False),
    Fault(Kind("postgres link", "cut"), 1.5, 0.5, together=False),
    Fault(Kind("notifier", "kill -9"), 0.5, 0.7, together=True),
    Fault(Kind("mqtt link", "reset"), 0.3, 0.5, together=False),
    Fault(Kind("bridge", "kill -9"), 0.3, 0.7, together=False),
    Fault(Kind("postgres link", "stall"), 1.0, 0.5, together=False),
    Fault(Kind("kafka link", "delay"), 1.0, 0.2, together=True),
    Fault(Kind("input topic", "retention"), 0.2, 0.5, together=False),
    Fault(Kind("input topic", "made anew"), 0.5, 0.5, together=False),
    Fault(Kind("input topic", "partitions added"), 0.5, 0.5, together=False),
    Fault(Kind("input topic", "group reset"), 0.5, 0.5, together=False),
    Fault(Kind("Kafka", "kill -9"), 0.3, 0.5, together=False),
    Fault(Kind("Kafka", "freeze"), 7.0, 0.5, together=False),  # longer than the session timeout
    Fault(Kind("PostgreSQL", "freeze"), 1.0, 0.5, together=False),
    Fault(Kind("bridge", "freeze"), 1.0, 0.5, together=True),
    Fault(Kind("Mosquitto", "restart"), 0.3, 0.5, together=False),
    Fault(Kind("bridge", "session lost"), 1.5, 0.5, together=False),
    Fault(Kind("bridge", "client id taken"), 1.5, 0.5, together=False),
]


async def test_everything_is_accounted_for() -> None:
    ways = WAYS if FULL else ()  # without gateways otherwise: tests/faults/test_kill_gateways.py
    faults = schedule(SEED, 60, kinds(clocks=available(), ways=ways)) if FULL else CHOSEN
    with server_directory() as directory:
        outcome = await run(Path(directory), SEED, MESSAGES * (5 if FULL else 1), faults, print, clocks=FULL, ways=ways)
    print(f"{table(outcome)}\n{summary(outcome)}")
    assert not outcome.problems, "\n".join(outcome.problems)
    assert not outcome.accounts.problems, "\n".join(outcome.accounts.problems)
    assert machine(outcome)["lines"][-1]["sent"] == MESSAGES * (5 if FULL else 1)
    assert outcome.accounts.mqtt.episodes > 100


def test_a_seed_is_a_schedule() -> None:
    among = kinds(clocks=True, ways=WAYS, sinks=HURTS)
    faults = schedule(1, 200, among)
    assert faults == schedule(1, 200, among)
    assert faults != schedule(2, 200, among)
    assert len(faults) == 200
    assert {fault.kind for fault in faults} == set(among)  # each at least once
