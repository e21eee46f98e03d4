"""Datagrams at a QUIC gateway's port that nobody's client would send: none stays, none raises, other peers go on."""

import asyncio
import random
from pathlib import Path

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from app.gateways.quic.endpoint import Endpoint
from app.runtime.quic.frames import framed
from tests.contract.gateways.quic.pipes import pipes
from tests.fuzzing import INPUTS
from tests.quic_rig import GatewayRig, batch, gateway_rig, until

FRAME = framed(batch(1, "s1").SerializeToString())
STRANGER = ("192.0.2.7", 4242)


def endpoint_of(rig: GatewayRig, answers: list[bytes]) -> Endpoint:
    """The gateway's endpoint, whose answers are gathered in `answers` instead of sent."""
    made = rig.gateway._endpoint
    assert made
    made.send = lambda data, address: answers.append(data)  # type: ignore[method-assign]
    return made


async def test_a_first_datagram_is_answered_by_less_than_it_brought_and_leaves_nothing(tmp_path: Path) -> None:
    """With an address that may be anybody's: a flood of them costs no memory, and sends nobody more than it cost."""
    answers: list[bytes] = []
    async with gateway_rig(tmp_path) as rig:
        endpoint = endpoint_of(rig, answers)
        (first,) = pipes(tmp_path).to_gateway()
        for number in range(200):
            endpoint.datagram_received(first, ("192.0.2.7", 1024 + number))
        assert rig.gateway.open == 0
        assert len(endpoint._links) == 0
        assert len(answers) == 200
        assert all(len(answer) < 200 for answer in answers)
        kinds = {pull_quic_header(Buffer(data=answer), host_cid_length=8).packet_type for answer in answers}
        assert kinds == {QuicPacketType.RETRY}


async def test_a_token_of_another_address_is_refused(tmp_path: Path) -> None:
    answers: list[bytes] = []
    made = pipes(tmp_path)
    async with gateway_rig(tmp_path) as rig:
        endpoint = endpoint_of(rig, answers)
        for data in made.to_gateway():
            endpoint.datagram_received(data, STRANGER)
        made.client.receive_datagram(answers.pop(), ("127.0.0.1", 5001), now=0.0)
        second = made.to_gateway()
        for data in second:
            endpoint.datagram_received(data, ("198.51.100.9", 4242))
        assert rig.gateway.open == 0
        assert len(answers) == 1
        assert b"not of this gateway" not in answers[0], "the reason is encrypted, as all else"
        for data in second:
            endpoint.datagram_received(data, STRANGER)
        assert rig.gateway.open == 1


@pytest.mark.parametrize("version", [b"\x0a\x1a\x2a\x3a", b"\0\0\0\0"])
async def test_versions_are_offered_to_whoever_sent_enough_and_never_in_a_circle(
    tmp_path: Path, version: bytes
) -> None:
    answers: list[bytes] = []
    made = pipes(tmp_path)
    async with gateway_rig(tmp_path) as rig:
        endpoint = endpoint_of(rig, answers)
        first = made.to_gateway()[0]
        endpoint.datagram_received(first[:1] + version + first[5:], STRANGER)
        assert len(answers) == (0 if version == b"\0\0\0\0" else 1)
        for answer in list(answers):
            assert len(answer) < 100
            endpoint.datagram_received(answer, STRANGER)
        endpoint.datagram_received((first[:1] + version + first[5:])[:200], STRANGER)
        assert len(answers) == (0 if version == b"\0\0\0\0" else 1)


async def test_garbage_with_a_good_token_is_kept_no_longer_than_it_takes_to_see_it(tmp_path: Path) -> None:
    answers: list[bytes] = []
    made = pipes(tmp_path)
    async with gateway_rig(tmp_path) as rig:
        endpoint = endpoint_of(rig, answers)
        endpoint.datagram_received(made.to_gateway()[0], STRANGER)
        made.client.receive_datagram(answers.pop(), ("127.0.0.1", 5001), now=0.0)
        data = bytearray(made.to_gateway()[0])
        data[400] ^= 1
        endpoint.datagram_received(bytes(data), STRANGER)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert rig.gateway.open == 0
        assert len(endpoint._links) == 0


@pytest.mark.fuzz
async def test_broken_datagrams_break_nothing(tmp_path: Path) -> None:
    """Of a handshake and of data, with bits that are turned, cut short, doubled, in any order, and noise among them."""
    chance = random.Random(13)
    seeds = recorded(tmp_path)
    answers: list[bytes] = []
    async with gateway_rig(tmp_path, quic_handshakes_per_second=1e9) as rig, rig.session() as sender:
        stream = sender.session.open_stream()
        sender.write(stream, FRAME)
        await sender.heard(1)
        endpoint = rig.gateway._endpoint
        assert endpoint
        real, known = endpoint.send, list(endpoint._links)
        endpoint.send = lambda data, address: (  # type: ignore[method-assign]
            answers.append(data) if address == STRANGER else real(data, address)
        )
        for number in range(INPUTS):
            data = bytearray(chance.choice(seeds))
            for _ in range(chance.randrange(4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            if chance.random() < 0.2:
                del data[chance.randrange(1, len(data)) :]
            if chance.random() < 0.2:
                data = bytearray(chance.randbytes(chance.randrange(1, 1300)))
            if chance.random() < 0.3:
                data[1:9] = chance.choice(known)
            endpoint.datagram_received(bytes(data), STRANGER)
            if number % 100 == 0:
                await asyncio.sleep(0)
                answers.clear()
        await asyncio.sleep(0.1)
        assert rig.gateway.open == 1
        sender.write(stream, FRAME)
        assert len(await sender.heard(2)) == 2
        await until(lambda: len(endpoint._links) <= 16)


def recorded(directory: Path) -> list[bytes]:
    """What a client sends from its first word to its last, without a retry."""
    (directory / "recorded").mkdir()
    made = pipes(directory / "recorded")
    found: list[bytes] = []
    for number in range(8):
        if number == 4:
            made.client.send_stream_data(0, FRAME * 20)
        sent = made.to_gateway()
        found += sent
        made.take(sent)
        for data in made.to_client():
            made.client.receive_datagram(data, ("127.0.0.1", 5001), now=made.now)
        made.now += 0.01
    return found


async def test_who_is_not_known_any_more_hears_so_at_a_pace(tmp_path: Path) -> None:
    answers: list[bytes] = []
    async with gateway_rig(tmp_path) as rig:
        endpoint = endpoint_of(rig, answers)
        for _ in range(2000):
            endpoint.datagram_received(b"\x41" + bytes(30), STRANGER)
        assert 400 <= len(answers) <= 600
        assert all(len(answer) == 30 for answer in answers)
        answers.clear()
        endpoint.datagram_received(b"\x41" + bytes(20), STRANGER)
        assert answers == []
