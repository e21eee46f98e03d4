"""A QUIC gateway under senders that send too much, too slowly or too often, with Kafka away: bounded, and fair."""

import asyncio
from collections import Counter
from pathlib import Path

from aioquic.quic.connection import NetworkAddress

from app.client.quic.credentials import IDLE_SECONDS
from app.client.quic.sender import QuicSender
from app.client.quic.session import QuicSession
from app.errors import TransientError
from app.gateways.quic.batch import FrameBatch, RefusedBatch
from app.gateways.quic.turns import FRAME as UNITS
from app.gateways.quic.turns import TURN
from app.local.servers.common import free_port
from app.ports import Account
from app.runtime.quic.frames import framed
from tests.quic_rig import GatewayRig, Pair, batch, gateway_rig, until

SENSORS = [f"s{number}" for number in range(100)]
FRAME = framed(batch(1, *SENSORS).SerializeToString())  # 4 kB, of which 100 records are made


def received(rig: GatewayRig) -> int:
    """Stream bytes that came in, of all connections."""
    return sum(peer.quic._local_max_data.used for peer in rig.gateway._peers)


async def steady(rig: GatewayRig, seconds: float = 0.3) -> int:
    """What has come in once nothing more does."""
    before = -1
    while received(rig) != before:
        before = received(rig)
        await asyncio.sleep(seconds)
    return before


async def test_with_kafka_away_a_sender_is_held_and_nothing_is_lost(tmp_path: Path) -> None:
    """2 MB of frames, of which the gateway takes what its own bound and the sender's window allow."""
    count, unacked = 500, 1 << 20
    async with gateway_rig(tmp_path, quic_unacked_bytes=unacked) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        sender.write(stream, FRAME)
        await sender.heard(1)
        rig.writer.goes_on.clear()
        sender.write(stream, FRAME * count)
        came = await steady(rig)
        assert came < 1 << 20, "a window of 512 kB, and what is under way"
        assert rig.intake.queue_depth * 560 < unacked + 100_000
        assert not sender.session.closed.done()
        rig.writer.goes_on.set()
        answers = await sender.heard(1 + count, 60)
        assert sum(answer.accepted for answer in answers) == 100 * (1 + count)
        assert len(rig.writer.written) == 100 * (1 + count)


async def test_what_all_senders_have_in_hand_is_bounded_and_each_goes_on(tmp_path: Path) -> None:
    """Ten senders of 1.7 MB of records each; the room is for a little more than one of them."""
    count = 30
    async with gateway_rig(tmp_path, gateway_buffer_bytes=2 << 20) as rig:
        rig.writer.goes_on.clear()
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(_sends(rig, count))
            await asyncio.sleep(1)
            await steady(rig)
            assert rig.intake.queue_depth * 560 < (2 << 20) + 60_000, "at most a batch more than fits"
            rig.writer.goes_on.set()
        assert len(rig.writer.written) == 10 * 100 * count


async def _sends(rig: GatewayRig, count: int) -> None:
    """From one connection; in order, and all of it is answered."""
    async with rig.session() as made:
        made.write(made.session.open_stream(), FRAME * count)
        answers = await made.heard(count, 60)
        assert all(answer.accepted == 100 for answer in answers)


async def test_an_account_with_many_frames_on_hand_takes_a_few_in_each_turn_of_the_loop(tmp_path: Path) -> None:
    """The frames are empty, so that nothing but this bounds them: 4,000 on four connections."""
    empty, turn, taken = framed(batch(1).SerializeToString()), 0, Counter[int]()
    async with gateway_rig(tmp_path) as rig:
        batches = rig.gateway._site.batches
        read = batches.read

        def counted(account: Account, frame: bytes) -> FrameBatch | RefusedBatch:
            taken[turn] += 1
            return read(account, frame)

        batches.read = counted  # type: ignore[method-assign]

        async def send() -> None:
            async with rig.session() as sender:
                sender.write(sender.session.open_stream(), empty * 1000)
                await sender.heard(1000, 60)

        sending = asyncio.gather(*[send() for _ in range(4)])
        while not sending.done():
            await asyncio.sleep(0)
            turn += 1
    assert taken.total() == 4000
    assert max(taken.values()) <= 2 * (TURN // UNITS + 1), "what comes in a turn, and what waited for it"


async def test_a_frame_that_does_not_end_is_refused_and_its_connection_goes_on(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, gateway_header_seconds=1.0) as rig, rig.session() as sender:
        slow, other = sender.session.open_stream(), sender.session.open_stream()
        for at in range(0, 40, 8):
            sender.write(slow, FRAME[at : at + 8])
            await asyncio.sleep(0.3)
        (answer,) = await sender.heard(1)
        assert answer.refusal.reason == "too_slow"
        assert answer.refusal.retry_after_ms == 1000
        sender.write(other, FRAME)
        assert (await sender.heard(2))[1].accepted == 100


async def test_a_frame_that_waits_for_kafka_is_not_its_senders_fault(tmp_path: Path) -> None:
    async with (
        gateway_rig(tmp_path, gateway_header_seconds=0.5, gateway_buffer_bytes=100_000) as rig,
        rig.session() as sender,
    ):
        stream = sender.session.open_stream()
        rig.writer.goes_on.clear()
        sender.write(stream, FRAME * 3 + FRAME[:100])
        await asyncio.sleep(2.2)  # connections are looked at every second
        assert sender.answers == []
        rig.writer.goes_on.set()
        sender.write(stream, FRAME[100:])
        assert [answer.accepted for answer in await sender.heard(4)] == [100] * 4


async def test_large_frames_have_their_memory_in_turns_and_all_get_through(tmp_path: Path) -> None:
    """Eight connections begin a frame of 900 kB each, where there is memory for two of them."""
    big = batch(1, *SENSORS[:3])
    big.metrics[0].extra_json = b'{"text":"' + b"x" * 900_000 + b'"}'
    body = big.SerializeToString()
    async with gateway_rig(tmp_path, gateway_buffer_bytes=4 << 20, gateway_body_max_bytes=1 << 20) as rig:
        reserve, most = rig.gateway._site.reserve, 0

        async def one() -> None:
            nonlocal most
            async with rig.session() as sender:
                sender.session.send(sender.session.open_stream(), body)
                while not sender.answers:
                    most = max(most, sum(_partial(peer) for peer in rig.gateway._peers))
                    await asyncio.sleep(0.005)
                assert sender.answers[0][1].accepted == 3

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(one())
        assert most < (2 << 20) + 8 * (64 << 10), "two whole frames, and of each what is granted to anybody"
        assert reserve._free == 2 << 20


def _partial(peer: object) -> int:
    return sum(stream._reader.pending for stream in peer._streams.values())  # type: ignore[attr-defined]


async def test_who_connects_and_says_nothing_is_let_go(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, quic_idle_seconds=1.0) as rig, rig.session() as sender:
        end = await sender.ended(5)
        assert "Idle timeout" in end.words
        await until(lambda: rig.gateway.open == 0)


class Mute(QuicSession):
    """A client that says its first word twice, the second time with the token it was given, and then nothing."""

    said = 0

    def _send(self, data: bytes, address: NetworkAddress) -> None:
        self.said += 1
        if self.said <= 2:
            super()._send(data, address)


async def test_a_handshake_that_is_not_completed_is_forgotten(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, gateway_header_seconds=0.5) as rig:
        loop = asyncio.get_running_loop()
        _, mute = await loop.create_datagram_endpoint(
            lambda: Mute(rig.client(), lambda *_: None), remote_addr=rig.address
        )
        await until(lambda: rig.gateway.open == 1)
        await until(lambda: rig.gateway.open == 0, 5)
        mute.close()


async def test_more_connections_than_there_may_be_are_refused_in_words(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, gateway_connections=2) as rig, rig.session(), rig.session() as second:
        async with rig.session() as third:
            end = await third.ended()
            assert "IOT_GATEWAY_CONNECTIONS" in end.words
            assert not end.for_ever
        second.session.close()
        await until(lambda: rig.gateway.open == 1)
        async with rig.session() as fourth:
            fourth.write(fourth.session.open_stream(), FRAME)
            assert (await fourth.heard(1))[0].accepted == 100


async def test_one_account_has_its_share_of_the_connections(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, quic_account_connections=1) as rig, rig.session() as first:
        async with rig.session() as second:
            end = await second.ended()
            assert "IOT_QUIC_ACCOUNT_CONNECTIONS" in end.words
        async with rig.session(rig.client(rig.authority.issue("n2"))) as other:
            other.write(other.session.open_stream(), framed(batch(1, "s1", node="n2").SerializeToString()))
            assert (await other.heard(1))[0].accepted == 1
        first.session.close()
        await until(lambda: rig.gateway.open == 0)
        async with rig.session() as third:
            third.write(third.session.open_stream(), FRAME)
            assert (await third.heard(1))[0].accepted == 100


async def test_handshakes_have_a_pace_and_those_over_it_are_not_lost(tmp_path: Path) -> None:
    """A hundred clients come back at once, as after a restart: they get in one after another."""
    async with gateway_rig(tmp_path, quic_handshakes_per_second=40.0) as rig:
        loop, began = asyncio.get_running_loop(), 0.0
        began = loop.time()
        sessions = await asyncio.gather(*[_connected(rig) for _ in range(40)])
        assert loop.time() - began > 0.8, "20 a second of one address, and a second's worth at once"
        assert all(sessions)


async def _connected(rig: GatewayRig) -> bool:
    try:
        async with rig.session() as made:
            return made.session.connected.done() and not made.session.closed.done()
    except TransientError:
        return False


async def test_a_stop_answers_what_was_taken_and_says_good_bye(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        rig.writer.goes_on.clear()
        sender.write(stream, FRAME * 5)
        await until(lambda: rig.intake.queue_depth == 500)
        stopping = asyncio.create_task(rig.gateway.stop(5.0))
        await asyncio.sleep(0.1)
        assert rig.gateway.ready() == {"quic": False}
        sender.write(stream, FRAME)  # which is not taken any more
        async with rig.session() as late:
            assert "the gateway stops" in (await late.ended()).words
        rig.writer.goes_on.set()
        await stopping
        assert [answer.accepted for answer in await sender.heard(5)] == [100] * 5
        end = await sender.ended()
        assert (end.words, end.for_ever) == ("the gateway stops: connect again", False)
        assert len(rig.writer.written) == 500


async def test_a_stop_with_kafka_away_ends_in_its_time(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        rig.writer.goes_on.clear()
        sender.write(sender.session.open_stream(), FRAME)
        await until(lambda: rig.intake.queue_depth == 100)
        async with asyncio.timeout(20):  # without the limit it would wait for ever
            await rig.gateway.stop(0.5)
        assert (await sender.ended()).words == "the gateway stops: connect again"
        assert sender.answers == []


async def test_a_sender_keeps_what_is_not_answered_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, QuicSender(rig.address, rig.client()) as sender:
        port = rig.gateway.port
        await (await sender.send(batch(0, "s1")))
        rig.writer.goes_on.clear()
        answers = [await sender.send(batch(0, "s1", first=number)) for number in range(2, 12)]
        await until(lambda: rig.intake.queue_depth == 10)
        await rig.gateway.stop(0.1)
        async with gateway_rig(tmp_path, authority=rig.authority, quic_port=port) as other:
            await sender.flush()
            assert [answer.result().accepted for answer in answers] == [1] * 10
            assert sender.figures == {"connections": 2, "repeated": 10, "unanswered": 0}
            assert len(other.writer.written) == 10


async def test_a_gateway_that_is_gone_without_a_word_is_known_by_its_successor(tmp_path: Path) -> None:
    """As after kill -9: the sender learns of this with its next packet, and need not wait for its idle timeout."""
    async with (
        gateway_rig(tmp_path, quic_port=(port := free_port())) as rig,
        QuicSender(rig.address, rig.client()) as sender,
    ):
        await (await sender.send(batch(0, "s1")))
        for peer in list(rig.gateway._peers):
            peer.link.abandon()  # the peer says no good-bye
        await rig.gateway.stop(0.1)
        server = Pair(*(rig.settings.quic_certificate_file, rig.settings.quic_key_file))  # type: ignore[arg-type]
        async with gateway_rig(
            tmp_path, authority=rig.authority, quic_port=port,
            quic_certificate_file=server.certificate, quic_key_file=server.key,
        ):  # fmt: skip
            async with asyncio.timeout(IDLE_SECONDS / 10):
                await (await sender.send(batch(0, "s1")))
            assert sender.figures["connections"] == 2
