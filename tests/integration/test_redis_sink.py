"""The sink `redis` on a real Redis: values, their order, streams, outages, accounts."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.local.servers.common import free_port
from app.settings import Settings
from app.sinks.port import Held, SinkMisconfigured, SinkUnavailable
from app.sinks.record import SinkRecord
from app.sinks.redis.sink import RedisSink
from app.sinks.redis.values import replaces
from tests.secured import Certificates
from tests.servers import server_directory
from tests.sink_readings import offsets, sink_record
from tests.sink_servers import ACCOUNT, PASSWORD, RedisServer, acl, frozen, running, thawed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with server_directory() as directory, running(RedisServer(directory)) as made:
        yield made


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with server_directory() as directory:
        yield Certificates(directory)


def sink(url: str, **more: Any) -> RedisSink:
    return RedisSink("redis", Settings(_env_file=None, redis_url=url, **more))


async def write(made: RedisSink, *records: SinkRecord) -> list[tuple[int, str]]:
    """Write records; returns the refused records, by offset."""
    made.add(records)
    found = await made.flush()
    assert made.held == Held()
    return [(record.offset, why) for record, why in found.refused]


async def ask(server: RedisServer, *command: Any) -> Any:
    """The server's answer to a command."""
    async with Redis(port=server.port) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def last(server: RedisServer, key: str) -> Any:
    """The last value of a device; None: there is no value."""
    found = await ask(server, "GET", f"iot:last:{key}")
    return found and json.loads(found)


async def test_the_last_reading_of_each_device(server: RedisServer, unique: str) -> None:
    made = sink(server.url)
    await made.open()
    await write(
        made,
        sink_record(1, user=unique, device="a", seconds=1, temperature=1),
        sink_record(2, user=unique, device="a", seconds=2, temperature=2, humidity=41.2),
        sink_record(3, user=unique, device="b", temperature=3),
        sink_record(4, user=unique, device="a", node=True, temperature=4),
    )
    keys = (f"{unique}/a", f"{unique}/b", f"iot/{unique}/a")
    assert [(await last(server, key))["temperature"] for key in keys] == [2, 3, 4]
    value = await last(server, f"{unique}/a")
    assert (value["time"], value["extra_data"]) == ("2026-11-21T02:00:02Z", {"humidity": 41.2})
    await made.close()


async def test_an_older_reading_takes_no_place(server: RedisServer, unique: str) -> None:
    made = sink(server.url)
    await write(made, sink_record(7, user=unique, seconds=10, sequence=5, temperature=7))
    for older in (
        sink_record(8, user=unique, seconds=9, sequence=9, temperature=8),
        sink_record(9, user=unique, seconds=10, sequence=4, temperature=9),
        sink_record(6, user=unique, seconds=9.999999, sequence=9, temperature=6),
    ):
        assert await write(made, older) == []
    assert (await last(server, f"{unique}/truck-1"))["temperature"] == 7
    await write(made, sink_record(10, user=unique, seconds=10.000001, sequence=0, temperature=10))
    assert (await last(server, f"{unique}/truck-1"))["temperature"] == 10
    await made.close()


TIMES = st.sampled_from([0, 0.000001, 0.5, 1, 59.999999, 60, 86400])
SEQUENCES = st.sampled_from([0, 1, 2, -1, -2, 9, 10, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
CAMES = st.sampled_from([0, 1, 299.999, 300, 86400, -5])


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TIMES, SEQUENCES, CAMES), min_size=2, max_size=12))
async def test_redis_and_the_sink_agree_which_reading_stays(
    server: RedisServer, readings: list[tuple[float, int, float]]
) -> None:
    made, stays = sink(server.url), None
    async with Redis(port=server.port) as client:
        await client.delete("iot:last:alice/agree")
        for offset, (seconds, sequence, came) in enumerate(readings):
            record = sink_record(offset, device="agree", seconds=seconds, sequence=sequence, came=came, n=offset)
            await write(made, record)
            if stays is None or replaces(record, stays, 300_000):
                stays = record
            assert json.loads(await client.get("iot:last:alice/agree"))["extra_data"] == {"n": stays.offset}
    await made.close()


async def test_a_stream_of_each_user_has_each_record_once(server: RedisServer, unique: str) -> None:
    made = sink(server.url, redis_stream_max=1000)
    records = [
        sink_record(n, user=unique, device=f"d{n % 3}", partition=n % 2, temperature=n, seconds=n) for n in range(20)
    ]
    await write(made, *records[:12])
    await write(made, *records[4:])  # as after a crash
    other = sink(server.url, redis_stream_max=1000)
    await write(other, *records)
    await other.close()
    assert await streamed(server, unique) == sorted(range(20), key=lambda n: (n >= 12, n % 2, n))
    assert await ask(server, "EXISTS", f"iot:stream:iot/{unique}") == 0
    await made.close()


async def streamed(server: RedisServer, user: str) -> list[int]:
    """The temperatures in the stream of a user, in its order."""
    found = await ask(server, "XRANGE", f"iot:stream:{user}", "-", "+")
    return [int(json.loads(fields[b"reading"])["temperature"]) for _, fields in found]


async def test_a_topic_that_was_made_anew_counts_from_0(server: RedisServer, unique: str) -> None:
    made = sink(server.url, redis_stream_max=1000)
    await write(
        made, *(sink_record(offset, user=unique, seconds=offset, temperature=offset) for offset in range(50, 53))
    )
    later = [sink_record(offset, user=unique, seconds=100 + offset, temperature=offset) for offset in range(3)]
    await write(made, *later)
    await write(made, *later)
    assert await streamed(server, unique) == [50, 51, 52, 0, 1, 2]
    await made.close()


async def test_a_stream_is_capped(server: RedisServer, unique: str) -> None:
    made = sink(server.url, redis_stream_max=100)
    await write(made, *(sink_record(offset, user=unique, seconds=offset, temperature=offset) for offset in range(1000)))
    found = await streamed(server, unique)
    assert 100 <= len(found) <= 250
    assert found[-1] == 999
    await made.close()


async def test_values_and_streams_expire(server: RedisServer, unique: str) -> None:
    made = sink(server.url, redis_stream_max=10, redis_ttl=1000)
    await write(made, sink_record(user=unique))
    for key in (f"last:{unique}/truck-1", f"stream:{unique}", f"stream-marks:{unique}"):
        assert 990 < await ask(server, "TTL", f"iot:{key}") <= 1000
    await made.close()


async def test_a_key_of_another_type_refuses_only_its_device(server: RedisServer, unique: str) -> None:
    await ask(server, "LPUSH", f"iot:last:{unique}/a", "mine")
    await ask(server, "SET", f"iot:stream:{unique}x", "mine")
    made = sink(server.url, redis_stream_max=10)
    refused = await write(
        made,
        sink_record(1, user=unique, device="a"),
        sink_record(2, user=unique, device="b"),
        sink_record(3, user=f"{unique}x", device="a"),
        sink_record(4, user=unique, device="a"),
    )
    assert [offset for offset, _ in refused] == [1, 3, 4]
    assert all(why.startswith("WRONGTYPE") for _, why in refused)
    assert await last(server, f"{unique}/b")
    await made.close()


async def test_a_value_of_another_writer_is_overwritten(server: RedisServer, unique: str) -> None:
    await ask(server, "SET", f"iot:last:{unique}/truck-1", "nothing of ours")
    made = sink(server.url)
    await write(made, sink_record(user=unique, temperature=1))
    assert (await last(server, f"{unique}/truck-1"))["temperature"] == 1
    await made.close()


async def test_what_is_revoked_is_not_written(server: RedisServer, unique: str) -> None:
    made = sink(server.url)
    made.add(
        [sink_record(1, user=unique, device="a", partition=0), sink_record(9, user=unique, device="b", partition=1)]
    )
    await made.revoked([0])
    assert made.held.records == 1
    assert dict((await made.flush()).upto) == {1: 10}
    assert await last(server, f"{unique}/a") is None
    await made.close()


async def test_redis_killed_loses_nothing(unique: str, server_dir: Path) -> None:
    with running(RedisServer(server_dir, lines=["appendfsync always"])) as server:
        made = sink(server.url, redis_stream_max=1000, redis_timeout=2.0)
        await write(made, sink_record(1, user=unique, temperature=1))
        server.process.kill()
        made.add([sink_record(2, user=unique, seconds=2, temperature=2)])
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                await made.flush()
        assert made.held.records == 1
        server.start()
        server.wait_ready()
        assert dict((await made.flush()).upto) == {0: 3}  # the script is no longer cached, and is sent again
        assert await streamed(server, unique) == [1, 2]
        await made.close()


async def test_redis_frozen_is_away_and_costs_no_reading(unique: str, server_dir: Path) -> None:
    with running(RedisServer(server_dir)) as server:
        made = sink(server.url, redis_stream_max=1000, redis_timeout=0.3)
        made.add([sink_record(1, user=unique, temperature=1)])
        with frozen(server):
            with pytest.raises(SinkUnavailable):
                await made.flush()
            flush = asyncio.create_task(made.flush())
            await asyncio.sleep(0.1)
            flush.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flush
        assert dict(await thawed(made)) == {0: 2}
        assert await streamed(server, unique) == [1]  # the call that timed out has arrived, and counts once
        await made.close()


async def test_an_interrupted_call_reports_what_was_completed(unique: str, server_dir: Path) -> None:
    with running(RedisServer(server_dir)) as server:
        made = sink(server.url, redis_batch=2, redis_timeout=1.0)
        await made.open()
        made.add([sink_record(offset, user=unique, device=f"d{offset}") for offset in range(4)])
        first = made._write_some

        async def then_frozen(records: list[SinkRecord]) -> None:
            await first(records)
            server.process.signal(19)

        made._write_some = then_frozen  # type: ignore[method-assign, assignment]
        with pytest.raises(SinkUnavailable) as caught:
            await made.flush()
        server.process.signal(18)
        assert dict(caught.value.so_far.upto) == {0: 2}
        assert offsets(made._records) == [2, 3]
        await made.close()


async def test_no_memory_is_an_outage_with_a_cure(unique: str, server_dir: Path) -> None:
    with running(RedisServer(server_dir, lines=["maxmemory 100kb", "maxmemory-policy noeviction"])) as server:
        made = sink(server.url)
        made.add([sink_record(user=unique)])
        with pytest.raises(SinkUnavailable) as caught:
            await made.flush()
        assert "maxmemory" in caught.value.cure
        await ask(server, "CONFIG", "SET", "maxmemory", "0")
        assert dict((await made.flush()).upto)
        await made.close()


async def test_a_replica_is_an_outage_with_a_cure(server: RedisServer, unique: str, server_dir: Path) -> None:
    with running(RedisServer(server_dir, lines=[f"replicaof 127.0.0.1 {server.port}"])) as replica:
        made = sink(replica.url)
        made.add([sink_record(user=unique)])
        with pytest.raises(SinkUnavailable) as caught:
            await made.flush()
        assert "primary" in caught.value.cure
        await made.close()


async def test_an_account_with_the_rights_that_are_documented(
    certificates: Certificates, unique: str, server_dir: Path, tmp_path: Path
) -> None:
    streams = ("+xadd", "+hget", "+hset", "+expire")
    with running(RedisServer(server_dir, certificates, acl(*streams))) as server:
        file = tmp_path / "password"
        file.write_text(f"{PASSWORD}\n")
        url = server.url.replace("://", f"://{ACCOUNT}@")
        made = sink(
            url, redis_password_file=file, redis_ca_file=certificates.ca, redis_certificate_file=certificates.client,
            redis_key_file=certificates.client_key, redis_stream_max=10, redis_ttl=100,
        )  # fmt: skip
        await made.open()
        assert await write(made, sink_record(user=unique)) == []
        await made.close()


async def test_a_refused_account_is_reported_with_its_setting(certificates: Certificates, server_dir: Path) -> None:
    with running(RedisServer(server_dir, lines=acl("-set"))) as server:
        wrong = sink(server.url.replace("://", f"://{ACCOUNT}:wrong@"))
        with pytest.raises(SinkMisconfigured, match="invalid username-password"):
            await wrong.open()
        unnamed = sink(server.url)
        with pytest.raises(SinkMisconfigured):
            await unnamed.open()
        elsewhere = sink(server.account_url, redis_prefix="other:")
        with pytest.raises(SinkMisconfigured):
            await elsewhere.open()
        made = sink(server.account_url)
        await made.open()
        made.add([sink_record()])
        with pytest.raises(SinkUnavailable) as caught:
            await made.flush()
        assert "IOT_REDIS_URL" in caught.value.cure
        assert PASSWORD not in str(caught.value)
        for one in (wrong, unnamed, elsewhere, made):
            await one.close()


async def test_tls_is_verified(certificates: Certificates, server_dir: Path) -> None:
    with running(RedisServer(server_dir, certificates, ["tls-auth-clients yes"])) as server:
        for more, words in (
            ({"redis_ca_file": certificates.strange_ca}, "IOT_REDIS_CA_FILE"),
            ({}, "IOT_REDIS_CA_FILE"),
            ({"redis_ca_file": certificates.ca}, "IOT_REDIS_CERTIFICATE_FILE|closed|reset"),
        ):
            made = sink(server.url, **more)
            with pytest.raises(SinkUnavailable, match=words):
                await made.open()
            await made.close()
        plain = sink(server.url.replace("rediss", "redis"))
        with pytest.raises(SinkUnavailable):
            await plain.open()
        await plain.close()


async def test_a_database_that_the_server_does_not_have(server: RedisServer) -> None:
    made = sink(server.url.replace("/0", "/99"))
    with pytest.raises(SinkMisconfigured, match=r"IOT_REDIS_URL: .* out of range"):
        await made.open()
    await made.close()


async def test_a_cluster_is_refused(server_dir: Path) -> None:
    bus = free_port()  # by default the port and 10,000, which may be that of any connection
    with running(RedisServer(server_dir, lines=["cluster-enabled yes", f"cluster-port {bus}"])) as server:
        made = sink(server.url)
        with pytest.raises(SinkMisconfigured, match="Cluster"):
            await made.open()
        await made.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "IOT_REDIS_URL is not set"),
        ({"redis_url": "redis://cache", "sink_kinds": "telemetry,status"}, "IOT_SINK_KINDS"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SinkMisconfigured, match=words):
        RedisSink("redis", Settings(_env_file=None, **settings))


def test_tls_files_without_tls_are_refused(certificates: Certificates) -> None:
    with pytest.raises(SinkMisconfigured, match="IOT_REDIS_CA_FILE: nothing is encrypted"):
        sink("redis://cache", redis_ca_file=certificates.ca)


def test_a_sample_shows_the_commands() -> None:
    lines = sink("redis://cache", redis_stream_max=10).shown([sink_record(temperature=1)])
    assert [line.partition(" {")[0] for line in lines] == [
        "SET iot:last:alice/truck-1", "XADD iot:stream:alice MAXLEN ~ 10 * reading",
    ]  # fmt: skip
