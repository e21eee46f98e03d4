"""What a QUIC gateway answers to frames, good and bad: the item alone, or the stream alone, and other streams go on."""

from pathlib import Path

import pytest

from app.core.ingress.limits import IngressLimits
from app.protobuf.metrics_pb2 import BatchAck
from app.runtime.quic.frames import framed
from tests.quic_rig import RigSession, batch, gateway_rig, until

LARGEST = 20_000


def one(number: int, *sensors: str) -> bytes:
    return framed(batch(number, *(sensors or ("s1",)), first=number).SerializeToString())


def reasons(answer: BatchAck) -> list[tuple[int, str]]:
    return [(item.index, item.reason) for item in answer.rejected]


async def test_answers_come_in_the_order_of_frames_however_those_are_cut(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        written = b"".join(one(number) for number in range(1, 41))
        for at in range(0, len(written), 7):
            sender.write(stream, written[at : at + 7])
        answers = await sender.heard(40)
        assert [(answer.batch_id, answer.accepted) for answer in answers] == [(number, 1) for number in range(1, 41)]
        assert len(rig.writer.written) == 40


async def test_a_stream_that_is_ended_is_answered_and_ended_too_and_makes_room_for_others(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        for number in range(1, 31):  # 8 at a time
            sender.write(sender.session.open_stream(), one(number), end=True)
        answers = await sender.heard(30)
        assert sorted(answer.batch_id for answer in answers) == list(range(1, 31))
        assert len({stream for stream, _ in sender.answers}) == 30
        assert rig.gateway.open == 1


@pytest.mark.parametrize(
    ("bad", "end", "reason", "error"),
    [
        (b"\xff\xff\xff\xff", False, "too_large", "a frame of 4294967295 bytes, 20000 at most"),
        (b"\x00\x00\x4e\x21", False, "too_large", "a frame of 20001 bytes"),
        (b"\x00\x00\x00\x00", False, "malformed", "a frame of no bytes"),
        (framed(b"\x08\x07 cut")[:-2], True, "malformed", "the stream ends within a frame: 4 bytes of 6 came"),
        (b"\x00", True, "malformed", "its length is cut off"),
        (framed(b"\xff" * 40), False, "malformed", "are no iot_stream.metrics.v1.MetricBatch"),
        (framed(b"\x12\x00" * 1000), False, "too_many_items", "more than 100 items"),
        (framed(b"\x08\x01\x18\x05"), False, "unknown_field", "field 3 of"),
    ],
)
async def test_a_bad_frame_is_the_last_of_its_stream_and_of_no_other(
    tmp_path: Path, bad: bytes, end: bool, reason: str, error: str
) -> None:
    async with (
        gateway_rig(tmp_path, gateway_body_max_bytes=LARGEST, gateway_batch_max_items=100) as rig,
        rig.session() as sender,
    ):
        stream, other = sender.session.open_stream(), sender.session.open_stream()
        sender.write(other, one(50)[:10])
        sender.write(stream, one(1) + one(2) + bad + (b"" if end else one(3)), end=end)
        answers = await sender.heard(3)
        assert [(answer.batch_id, answer.accepted) for answer in answers[:2]] == [(1, 1), (2, 1)]
        assert answers[2].refusal.reason == reason
        assert error in answers[2].refusal.error
        assert answers[2].refusal.retry_after_ms == 0
        sender.write(other, one(50)[10:])
        answers = await sender.heard(4)
        assert (answers[3].batch_id, answers[3].accepted) == (50, 1)
        assert len(rig.writer.written) == 3, "what follows a frame that is refused is not taken"
        assert not sender.session.closed.done()


async def test_bad_items_are_refused_alone(tmp_path: Path) -> None:
    made = batch(9, "good", "a/b", "", "nan", "good")
    made.metrics[3].value = float("nan")
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        sender.write(sender.session.open_stream(), framed(made.SerializeToString()))
        (answer,) = await sender.heard(1)
        assert (answer.batch_id, answer.accepted) == (9, 2)
        assert reasons(answer) == [(1, "bad_id"), (2, "bad_id"), (3, "out_of_range")]
        assert len(rig.writer.written) == 2
        assert rig.writer.dead == []


async def test_bad_items_become_dead_letters_where_that_is_wanted(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, gateway_dead_letter_rejected=True) as rig, rig.session() as sender:
        sender.write(sender.session.open_stream(), one(1, "good", "a/b"))
        (answer,) = await sender.heard(1)
        assert (answer.accepted, len(answer.rejected), len(rig.writer.dead)) == (1, 1, 1)
        assert ("reason", b"bad_id") in rig.writer.dead[0].headers


async def test_what_kafka_refuses_for_ever_is_rejected_by_its_place_in_the_batch(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        sender.write(stream, one(1, "s1", "s2", "s3"))
        await sender.heard(1)
        rig.writer.refused = {rig.writer.written[1].value}
        bad = batch(2, "a/b", "s2", "s3")
        bad.metrics[1].CopyFrom(batch(1, "s1", "s2", "s3").metrics[1])
        sender.write(stream, framed(bad.SerializeToString()))
        answer = (await sender.heard(2))[1]
        assert (answer.accepted, reasons(answer)) == (1, [(0, "bad_id"), (1, "payload_too_large")])


async def test_an_empty_batch_is_answered(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        sender.write(sender.session.open_stream(), framed(batch(3).SerializeToString()))
        (answer,) = await sender.heard(1)
        assert (answer.batch_id, answer.accepted, len(answer.rejected)) == (3, 0, 0)


async def test_what_is_over_a_limit_is_refused_and_may_come_again(tmp_path: Path) -> None:
    limits = IngressLimits(device_messages=2.0, burst=1.0)
    async with gateway_rig(tmp_path, limits) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        sender.write(stream, one(1, "s1", "s1", "s1", "s2"))
        (answer,) = await sender.heard(1)
        assert (answer.accepted, reasons(answer)) == (3, [(2, "rate_limited")])
        assert "send the batch again in" in answer.rejected[0].error
        sender.write(stream, one(2, "s1", "s1"))
        refusal = (await sender.heard(2))[1]
        assert (refusal.batch_id, refusal.refusal.reason, refusal.accepted) == (2, "rate_limited", 0)
        assert 0 < refusal.refusal.retry_after_ms <= 1000
        assert len(rig.writer.written) == 3


@pytest.mark.parametrize("policy", ["refuse", "count"])
async def test_new_series_over_the_limit_are_refused_or_counted_and_known_ones_always_come_in(
    tmp_path: Path, policy: str
) -> None:
    async with gateway_rig(tmp_path, quic_series_max=2, quic_series_policy=policy) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        sender.write(stream, one(1, "s1", "s2") + one(2, "s3", "s1", "s2"))
        answer = (await sender.heard(2))[1]
        assert (answer.accepted, reasons(answer)) == ((2, [(0, "too_many_series")]) if policy == "refuse" else (3, []))
        async with rig.session(rig.client(rig.authority.issue("n2"))) as other:
            other.write(other.session.open_stream(), framed(batch(1, "s3", node="n2").SerializeToString()))
            assert (await other.heard(1))[0].accepted == 1, "the limit is of each account"


async def test_a_stream_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        sender.write(stream, one(1) + one(2)[:20])
        await sender.heard(1)
        sender.session.forget_stream(stream)
        await _again(sender, 3)
        assert [record.value for record in rig.writer.written] == sorted(
            {record.value for record in rig.writer.written}
        )
        assert len(rig.writer.written) == 2


async def test_a_sender_that_wants_no_answers_gets_none(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        sender.write(stream, one(1))
        await sender.heard(1)
        sender.session._readers.clear()
        sender.session._quic.stop_stream(stream, 1)
        sender.write(stream, one(2))
        await until(lambda: len(rig.writer.written) == 2)
        await _again(sender, 3)
        assert [answer.batch_id for _, answer in sender.answers] == [1, 3]


async def _again(sender: RigSession, number: int) -> None:
    """The connection is as good as before."""
    count = len(sender.answers)
    sender.write(sender.session.open_stream(), one(number))
    assert (await sender.heard(count + 1))[count].accepted == 1
