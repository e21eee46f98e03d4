"""The books balance: whatever a batch holds, each of its records is counted under one outcome."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from app.core.decode import Limits
from app.core.model import Record
from app.core.process import Processor
from app.core.rulebook import RuleBook
from app.core.write import Written
from app.ops import metrics
from app.ops.ledger import BatchLedger
from app.pipeline import Seconds
from tests.unit.records import NOW, Message

KINDS = [
    Message(),
    Message(value=b"{"),
    Message(value=None),
    Message(headers=[("mqtt_topic", b"nowhere")]),
    Message(headers=[("kind", b"silence")]),
    Message(headers=[("mqtt_topic", b"iot/n1/status")], value=b"online"),
    Message(headers=[("mqtt_topic", b"users/u1/config")], value=b"[]"),
    Message(headers=[("mqtt_topic", b"users/u1/config")], value=b"[1]"),
]


class Records:
    """A batch that nobody acknowledges."""

    topic, partition, first_offset, epoch = "iot-stream", 3, 0, 0

    def __init__(self, records: list[Message]) -> None:
        self.records: Sequence[Record] = records
        self.next_offset = len(records)

    def current(self) -> bool:
        return True

    async def ack(self) -> None:
        raise AssertionError


def outcomes() -> dict[str, float]:
    samples = next(iter(metrics.LEDGER.collect())).samples
    own = [s for s in samples if s.name == "iot_ledger_total" and s.labels["partition"] == "3"]
    return {sample.labels["outcome"]: sample.value for sample in own}


@pytest.mark.parametrize("seed", range(20))
def test_the_books_balance(seed: int) -> None:
    chance = random.Random(seed)
    batch = Records([chance.choice(KINDS) for _ in range(chance.randint(1, 60))])
    work = Processor(Limits(), RuleBook(), lambda partition, key: None)(batch, NOW.timestamp())
    refused: Any = tuple((n, "no") for n in range(len(work.rows)) if chance.random() < 0.2)
    refused_effects: Any = tuple((n, "no") for n in range(len(work.effects)) if chance.random() < 0.2)
    duplicates = chance.randint(0, len(work.rows) - len(refused))
    stored = len(work.rows) - len(refused) - duplicates
    before = outcomes()
    BatchLedger().batch_done(batch, work, Written(stored, duplicates, refused, refused_effects), Seconds())
    counted = {name: count - before.get(name, 0) for name, count in outcomes().items()}
    assert counted.pop("received") == len(batch.records)
    assert sum(counted.values()) == len(batch.records)
    assert counted.get("duplicate", 0) == duplicates


def test_the_batches_hold_every_outcome() -> None:
    work = Processor(Limits(), RuleBook(), lambda partition, key: None)(Records(KINDS), NOW.timestamp())
    assert (len(work.rows), len(work.effects), len(work.rejected), sum(work.dropped.values())) == (1, 2, 4, 1)
