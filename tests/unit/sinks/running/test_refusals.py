"""The dead letters of a sink: from which offset on the topic is read for dead letters that exist already."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from app.core.batch.batch import Batch
from app.core.model.records import Rejected
from app.kafka.access import access
from app.kafka.session_lease import SessionLease
from app.settings import Settings
from app.sinks.running.refusals import SinkDeadLetters
from tests.sink_records import sink_records


class _Sent:
    """KafkaDeadLetters in memory."""

    batches: ClassVar[list[tuple[int, int, list[int]]]] = []

    def __init__(self, *_: Any) -> None: ...

    async def send(self, batch: Batch, rejected: Sequence[Rejected]) -> None:
        self.batches.append((batch.partition, batch.first_offset, [one.record.offset for one in rejected]))


async def test_a_refused_record_may_be_behind_records_that_are_refused_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash the records are refused in another order: the dead letters of all of them have to be found."""
    monkeypatch.setattr("app.sinks.running.refusals.KafkaDeadLetters", _Sent)
    monkeypatch.setattr(_Sent, "batches", [])
    settings, stop = Settings(_env_file=None), asyncio.Event()
    letters = SinkDeadLetters(settings, access(settings), "feed", stop, SessionLease(10.0, stop))
    refused = [(record, "no") for record in (*sink_records([120, 100]), *sink_records([7], partition=1))]
    await letters.send(refused, {0: 50, 1: 7}, 1)
    assert _Sent.batches == [(0, 50, [100, 120]), (1, 7, [7])]
    await letters.stop()
