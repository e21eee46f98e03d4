"""What one connection, or all of them, can make the gateway keep is bounded; who is slow ends alone."""

import asyncio
import json
import resource

from prometheus_client import REGISTRY

from tests.contract.gateways.tcp.serving import LOGIN, Client, event, served
from tests.contract.gateways.tcp.test_lines import counted
from tests.waiting import until

KILO = event(1, pad="x" * 940)


def connections() -> float:
    """How many there are, by the metric."""
    return REGISTRY.get_sample_value("iot_gateway_connections", {"gateway": "tcp"}) or 0.0


async def test_a_connection_is_not_read_beyond_its_bound() -> None:
    async with served(tcp_unacked_bytes=500_000) as tcp:
        client = await tcp.logged_in()
        tcp.writer.there.clear()
        client.send(KILO * 30_000)
        await until(lambda: tcp.intake.queue_depth > 400)
        await asyncio.sleep(0.2)
        assert 400 < tcp.intake.queue_depth < 700  # the bound, and what was read at once
        tcp.writer.there.set()
        await client.until_acked(30_000)
        assert len(tcp.writer.records) == 30_000


async def test_all_connections_together_are_not_read_beyond_the_bound_of_the_process() -> None:
    async with served(room=4 << 20) as tcp:
        clients = [await tcp.logged_in(f"user{number % 8}") for number in range(40)]
        tcp.writer.there.clear()
        for client in clients:
            client.send(KILO * 1000)
        await until(lambda: tcp.intake.full)
        await asyncio.sleep(0.2)
        assert tcp.intake.queue_depth * 1500 < (4 << 20) + 10 * (64 << 10) * 1.5
        tcp.writer.there.set()
        for client in clients:
            await client.until_acked(1000, 20)
        assert len(tcp.writer.records) == 40_000


async def test_one_user_does_not_take_the_room_of_all() -> None:
    async with served(room=4 << 20) as tcp:
        many = [await tcp.logged_in() for _ in range(20)]
        other = await tcp.logged_in("bob")
        tcp.writer.there.clear()
        for client in many:
            client.send(KILO * 1000)
        depth = -1
        while depth != tcp.intake.queue_depth:  # until no more is read
            depth = tcp.intake.queue_depth
            await asyncio.sleep(0.3)
        assert not tcp.intake.full
        other.send(KILO * 10)
        await until(lambda: tcp.intake.queue_depth == depth + 10)
        tcp.writer.there.set()
        await other.until_acked(10)
        for client in many:
            await client.until_acked(1000, 20)


async def test_whoever_does_not_take_his_answers_is_not_read_and_ends() -> None:
    before, memory = counted("slow_reader"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with served(gateway_idle_seconds=1.0) as tcp:
        client = await tcp.connect(receive_buffer=4096)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(LOGIN, b"x\n" * 3_000_000)  # 300 MB of refusals
        await until(lambda: counted("slow_reader") == before + 1, 20)
        await until(lambda: connections() == 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # kB


async def test_a_connection_with_much_to_refuse_does_not_keep_the_others_waiting() -> None:
    async with served() as tcp:
        noisy, quiet = await tcp.logged_in(), await tcp.logged_in()
        noisy.send(b'{"a":\n' * 50_000)
        longest = 0.0
        reading = asyncio.create_task(noisy.until_acked(50_000, 60))
        loop = asyncio.get_running_loop()
        for number in range(1, 21):
            began = loop.time()
            quiet.send(event(number))
            assert await quiet.said() == {"acked": number}
            longest = max(longest, loop.time() - began)
        reading.cancel()
        assert longest < 2.0


async def test_a_quiet_connection_ends_and_a_blank_line_keeps_it() -> None:
    async with served(gateway_idle_seconds=1.5) as tcp:
        quiet, kept = await tcp.logged_in(), await tcp.logged_in()

        async def keep(client: Client) -> None:
            for number in range(1, 9):
                client.send(b"\n")
                assert await client.said() == {"acked": number}
                await asyncio.sleep(0.4)

        keeping = asyncio.create_task(keep(kept))
        (last,) = await quiet.rest()
        assert (last["ok"], last["reason"]) == (False, "idle")
        await keeping


async def test_a_connection_that_waits_for_kafka_is_not_quiet() -> None:
    async with served(gateway_idle_seconds=0.3) as tcp:
        client = await tcp.logged_in()
        tcp.writer.there.clear()
        client.send(event(1))
        assert await client.silent(2.5)
        tcp.writer.there.set()
        assert await client.said() == {"acked": 1}


async def test_a_line_that_comes_too_slowly_ends_the_connection_behind_the_acks() -> None:
    async with served(gateway_header_seconds=0.5) as tcp:
        client = await tcp.logged_in()
        client.send(event(1))

        async def drip() -> None:
            for byte in event(2)[:-1]:
                client.send(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        answers = await client.rest(10)
        assert answers[0] == {"acked": 1}
        assert answers[-1]["reason"] == "slow_line"
        assert len(tcp.writer.records) == 1
        dripping.cancel()


async def test_one_address_does_not_take_all_places() -> None:
    before = counted("too_many_connections")
    async with served(gateway_connections=5, gateway_peer_connections=3) as tcp:
        clients = [await tcp.logged_in() for _ in range(3)]
        assert connections() == 3
        fourth = await tcp.connect()
        assert (await fourth.rest())[0]["reason"] == "too_many_connections"
        clients[0].writer.transport.abort()
        await until(lambda: connections() == 2)
        await tcp.logged_in()
    assert counted("too_many_connections") == before + 1


async def test_whoever_only_holds_seats_loses_them() -> None:
    before = counted("made_room")
    async with served(gateway_connections=4, gateway_peer_connections=10, gateway_account_connections=4) as tcp:
        kept = await tcp.logged_in()
        silent = [await tcp.connect() for _ in range(3)]
        await until(lambda: connections() == 4)
        for _ in range(3):
            await tcp.logged_in()
        for client in silent:
            assert await client.rest() == []
        assert counted("made_room") == before + 3
        late = await tcp.connect()  # all are at work now
        assert (await late.rest())[0]["reason"] == "too_many_connections"
        kept.send(event(1))
        assert await kept.said() == {"acked": 1}


async def test_a_connection_that_breaks_takes_nothing_with_it() -> None:
    async with served() as tcp:
        client, other = await tcp.logged_in(), await tcp.logged_in()
        tcp.writer.there.clear()
        client.send(event(1))
        other.send(event(2))
        await until(lambda: tcp.intake.queue_depth == 2)
        client.break_off()
        await until(lambda: connections() == 1)
        tcp.writer.there.set()
        assert await other.said() == {"acked": 1}
        assert {json.loads(one.value)["sequence_id"] for one in tcp.writer.records} == {1, 2}
