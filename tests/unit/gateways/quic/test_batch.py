"""Frames of any bytes -> batches and their answers: every item is accounted for once, and nothing is raised."""

import asyncio

import pytest

from app.core.ingress.limits import IngressLimits
from app.core.ingress.series import Series
from app.gateways.admission import Admission
from app.gateways.intake import Intake
from app.gateways.quic.batch import BatchIntake, RefusedBatch, accepted, refusal
from app.gateways.telemetry_record import Rejection
from app.ports import Account
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from tests.fuzzing import INPUTS, broken
from tests.quic_rig import StallingWriter, batch

NODE = Account("n1")


@pytest.fixture
def intake() -> Intake:
    async def made() -> Intake:
        return Intake(StallingWriter(), 64 << 20, Admission(IngressLimits()))

    return asyncio.run(made())


def reader(intake: Intake, *, series: int = 1000, items: int = 50, refuse: bool = True) -> BatchIntake:
    return BatchIntake(
        intake, items, Series(series, 10 * series, 3600), refuse_series=refuse, dead_letter_topic_of=None
    )


def seeds() -> list[bytes]:
    good = batch(3, "s1", "s2", "s3")
    odd = batch(4, "s1", "", "a/b", "s2")
    odd.metrics[0].value = float("inf")
    odd.metrics[3].extra_json = b'{"unit":"C"}'
    return [good.SerializeToString(), odd.SerializeToString(), batch(5).SerializeToString()]


@pytest.mark.fuzz
def test_broken_frames_are_batches_or_refusals_and_each_item_is_answered_once(intake: Intake) -> None:
    tokens = [b"\x12\x00", b"\x08\xff\xff\xff\xff\x0f", b"n1", b"n2", b"\x0a\x02", b"\x21", b"\xc3\x28", b"\0" * 8]
    read, outcomes = reader(intake), {"batch": 0, "refusal": 0}
    for frame in broken(seeds(), tokens, INPUTS, seed=17):
        found = read.read(NODE, frame)
        if isinstance(found, RefusedBatch):
            outcomes["refusal"] += 1
            said = BatchAck.FromString(refusal(found))
            assert said.refusal.reason
            assert said.refusal.error
            assert (said.accepted, len(said.rejected), said.refusal.retry_after_ms) == (0, 0, 0)
            continue
        outcomes["batch"] += 1
        sent = MetricBatch.FromString(frame)
        answer = BatchAck.FromString(accepted(found, []))
        indexes = [item.index for item in answer.rejected]
        assert answer.batch_id == sent.batch_id
        assert answer.accepted == len(found.records)
        assert answer.accepted + len(indexes) == len(sent.metrics)
        assert indexes == sorted(set(indexes))
        assert all(record.headers[0][1].startswith(b"iot/n1/") for record in found.records)
    assert min(outcomes.values()) > INPUTS / 20, outcomes


def test_places_are_right_whatever_is_taken_out_before(intake: Intake) -> None:
    read = reader(intake, series=2)
    sent = batch(1, "s1", "bad/id", "s2", "s3", "s1", "s4")
    found = read.read(NODE, sent.SerializeToString())
    assert not isinstance(found, RefusedBatch)
    answer = BatchAck.FromString(accepted(found, [(1, Rejection("payload_too_large", "Kafka"))]))
    assert answer.accepted == 2
    assert [(item.index, item.reason) for item in answer.rejected] == [
        (1, "bad_id"),
        (2, "payload_too_large"),
        (3, "too_many_series"),
        (5, "too_many_series"),
    ]


def test_series_that_are_counted_alone_come_in(intake: Intake) -> None:
    found = reader(intake, series=1, refuse=False).read(NODE, batch(1, "s1", "s2", "s3").SerializeToString())
    assert not isinstance(found, RefusedBatch)
    assert len(found.records) == 3


def test_more_items_than_there_may_be_are_refused_whole(intake: Intake) -> None:
    found = reader(intake, items=2).read(NODE, batch(1, "s1", "s2", "s3").SerializeToString())
    assert isinstance(found, RefusedBatch)
    assert found.reason == "too_many_items"
