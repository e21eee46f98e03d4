"""`iot-stream push --quic` as somebody runs it, against a gateway in this process; and the stream it is made of."""

import asyncio
import json
from pathlib import Path

import pytest

from app.client.pace import Pace
from app.client.quic.sender import QuicSender
from app.client.quic.sending import QuicSending
from app.client.quic.session import open_first
from app.client.sent_batch import SentBatch
from app.core.ingress.limits import IngressLimits
from app.errors import PermanentError, TransientError
from app.local.servers.common import LOOPBACK, free_port
from tests.quic_rig import GatewayRig, batch, gateway_rig
from tools.command import iot_stream

PACE = Pace(in_flight=3, first_pause=0.2)


def lines(path: Path, count: int) -> Path:
    """Metrics, every tenth broken, one event among them."""
    made = [
        "{broken" if number % 10 == 5 else json.dumps({"sensor_id": f"s{number % 3}", "value": number, "unit": "C"})
        for number in range(count)
    ]
    made[1] = json.dumps({"user_id": "n1", "device_id": "d", "sequence_id": 1, "timestamp": 1795226400})
    path.write_text("\n".join(made) + "\n")
    return path


def options(rig: GatewayRig) -> list[str | Path]:
    host, port = rig.address
    certificate, key = rig.pair
    trust: list[str | Path] = ["--ca", rig.authority.file, "--server-name", "localhost"]
    return ["--quic", f"{host}:{port}", "--certificate", certificate, "--key", key, *trust]


async def test_a_file_of_metrics_is_pushed_and_what_is_refused_is_reported(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        source, refused = lines(tmp_path / "metrics.ndjson", 100), tmp_path / "refused.ndjson"
        words = ["push", source, "--user", "n1", "--batch", "7", "--refused", refused, "--json", *options(rig)]
        done = await iot_stream({}, *words)
        assert done.code == 1, done.error
        figures = json.loads(done.out)
        assert (figures["accepted"], figures["refused"]) == (89, 11)
        assert figures["reasons"] == {"bad_json": 10, "other_way": 1}
        assert len(rig.writer.written) == 89
        values = [json.loads(record.value)["value"] for record in rig.writer.written]
        assert values == sorted(values)
        assert {json.loads(record.value)["unit"] for record in rig.writer.written} == {"C"}


async def test_who_is_not_let_in_learns_why_and_ends(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        rig.pair = rig.authority.issue("nobody")
        done = await iot_stream({}, "push", lines(tmp_path / "metrics.ndjson", 3), "--user", "n1", *options(rig))
        assert done.code == 1
        assert "common name is no account's" in done.error


@pytest.mark.parametrize("missing", ["--ca", "--certificate"])
async def test_both_sides_show_a_certificate(tmp_path: Path, missing: str) -> None:
    (tmp_path / "shown.pem").touch()
    given = ["--ca" if missing == "--certificate" else "--certificate", str(tmp_path / "shown.pem")]
    done = await iot_stream({}, "push", "-", "--quic", "localhost:5001", *given)
    assert (done.code, "both sides show a certificate" in done.error) == (2, True)


async def test_of_several_addresses_the_first_that_answers_is_taken(tmp_path: Path) -> None:
    """At one nobody listens, as at ::1 of a localhost; to another no packet gets."""
    silent, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=(LOOPBACK, 0)
    )
    nowhere, lost = (LOOPBACK, free_port()), silent.get_extra_info("sockname")
    async with gateway_rig(tmp_path) as rig:
        session = await open_first([nowhere, lost, rig.address], rig.client(), lambda *_: None, 3.0)
        assert session.connected.done()
        assert not session.closed.done()
        assert rig.gateway.open == 1
        session.close()
        with pytest.raises(TransientError, match="no answer from"):
            await open_first([nowhere, lost], rig.client(), lambda *_: None, 0.4)
    silent.close()


def sent(number: int, *sensors: str) -> SentBatch:
    return SentBatch(number, 0, batch(number, *sensors, first=10 * number))


async def test_what_is_put_off_is_sent_again_before_anything_new(tmp_path: Path) -> None:
    limits = IngressLimits(device_messages=10.0, burst=0.2)
    async with gateway_rig(tmp_path, limits) as rig, QuicSender(rig.address, rig.client()) as sender:
        sending = QuicSending(sender, PACE)
        await sending.put(sent(1, "s1", "s1", "s1", "s2"))
        assert (acked := await sending.next_ack()) is not None
        assert (acked.accepted, list(acked.refused)) == (4, [])
        await sending.put(sent(2, "s3"))
        sending.end()
        assert (acked := await sending.next_ack()) is not None
        assert await sending.next_ack() is None
        assert [record.headers[0][1].split(b"/")[2] for record in rig.writer.written] == [
            b"s1", b"s1", b"s2", b"s1", b"s3"
        ]  # fmt: skip
        await sending.close()


async def test_whole_batches_that_are_put_off_come_again_in_their_order(tmp_path: Path) -> None:
    """Ten batches at once, of which a tenth of a second lets one in: each other batch ends its stream, and waits."""
    limits = IngressLimits(device_messages=20.0, burst=0.05)
    async with gateway_rig(tmp_path, limits) as rig, QuicSender(rig.address, rig.client()) as sender:
        answers = [await sender.send(batch(0, "s1", first=number)) for number in range(1, 11)]
        await sender.flush()
        assert [(answer.result().batch_id, answer.result().accepted) for answer in answers] == [
            (number, 1) for number in range(1, 11)
        ]
        sent = [json.loads(record.value)["sequence_id"] for record in rig.writer.written]
        assert sent == list(range(1, 11)), "once each: none is taken from behind one that is put off"
        assert sender.figures["connections"] == 1


async def test_a_batch_that_is_refused_for_ever_holds_up_no_other(tmp_path: Path) -> None:
    async with (
        gateway_rig(tmp_path, gateway_batch_max_items=2) as rig,
        QuicSender(rig.address, rig.client()) as sender,
    ):
        sensors = [("s1",), ("s1", "s2", "s3"), ("s4",)]
        answers = [await sender.send(batch(0, *names)) for names in sensors]
        await sender.flush()
        assert [answer.result().refusal.reason for answer in answers] == ["", "too_many_items", ""]
        assert [answer.result().accepted for answer in answers] == [1, 0, 1]


async def test_so_many_batches_are_under_way_and_no_more(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, QuicSender(rig.address, rig.client()) as sender:
        rig.writer.goes_on.clear()
        sending = QuicSending(sender, PACE)
        for number in range(1, 4):
            await sending.put(sent(number, "s1"))
        fourth = asyncio.ensure_future(sending.put(sent(4, "s1")))
        await asyncio.sleep(0.3)
        assert not fourth.done()
        assert len(sending.left()) == 3
        rig.writer.goes_on.set()
        assert await sending.next_ack() is not None
        await fourth
        await sending.close()


async def test_a_gateway_that_answers_nothing_is_given_up(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, QuicSender(rig.address, rig.client()) as sender:
        rig.writer.goes_on.clear()
        sending = QuicSending(sender, Pace(give_up=0.5))
        await sending.put(sent(1, "s1"))
        with pytest.raises(TransientError, match="no ack within"):
            await sending.next_ack()
        assert len(sending.left()) == 1
        await sending.close()


async def test_a_batch_that_no_gateway_takes_ends_it(tmp_path: Path) -> None:
    async with (
        gateway_rig(tmp_path, gateway_batch_max_items=2) as rig,
        QuicSender(rig.address, rig.client()) as sender,
    ):
        sending = QuicSending(sender, PACE)
        await sending.put(sent(1, "s1", "s2", "s3"))
        with pytest.raises(PermanentError, match="too_many_items"):
            await sending.next_ack()
        await sending.close()
