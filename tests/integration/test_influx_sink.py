"""The sink `influx` on a real InfluxDB 1 and VictoriaMetrics: types, bad lines, accounts, TLS, outages."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from app.sinks.influx import sink as influx_sink
from app.sinks.influx.sink import InfluxSink
from app.sinks.port import Held, SinkMisconfigured, SinkUnavailable
from app.sinks.record import SinkRecord
from tests.secured import Certificates
from tests.servers import server_directory
from tests.sink_readings import START, offsets, sink_record
from tests.sink_servers import ACCOUNT, PASSWORD, InfluxServer, VictoriaServer, frozen, running, thawed

pytestmark = pytest.mark.integration
FIRST = 1795226400000000  # the time of a reading at 0 s, in microseconds


@pytest.fixture(scope="module")
def server() -> Iterator[InfluxServer]:
    with server_directory() as directory, running(InfluxServer(directory)) as made:
        yield made


@pytest.fixture(scope="module")
def victoria() -> Iterator[VictoriaServer]:
    with server_directory() as directory, running(VictoriaServer(directory)) as made:
        yield made


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with server_directory() as directory:
        yield Certificates(directory)


def sink(url: str, **more: Any) -> InfluxSink:
    return InfluxSink("influx", Settings(_env_file=None, **{"influx_url": url, "influx_version": 1, **more}))


async def write(made: InfluxSink, *records: SinkRecord) -> list[tuple[int, str]]:
    """Write records; returns the refused records, by offset."""
    made.add(records)
    found = await made.flush()
    assert made.held == Held()
    return [(record.offset, why) for record, why in found.refused]


async def test_readings_are_points_with_the_types_they_had(server: InfluxServer, unique: str) -> None:
    made = sink(server.url, influx_measurement=unique)
    await made.open()
    fields: dict[str, Any] = {"ok": True, "mode": 'on "1"\\, a=b\nnext', "humidity": 41.2, "whole": 3}
    fields |= {"oil": {"temp": 90.5}, "gps": [1, 2]}
    await write(
        made,
        sink_record(7, seconds=0.123457, temperature=21.5, battery=80, **fields),
        sink_record(8, user="a b,c=d\\", device='x "y"', node=True, temperature=-0.1),
    )
    first, second = server.points(unique)
    found = first if "ok" in first else second
    other = second if "ok" in first else first
    assert found == {
        "time": FIRST + 123457, "user_id": "alice", "device_id": "truck-1", "temperature": 21.5, "battery": 80,
        "ok": True, "mode": 'on "1"\\, a=b\\nnext', "humidity": 41.2, "whole": 3, "oil.temp": 90.5, "gps": "[1, 2]",
    }  # fmt: skip
    assert other == {
        "time": FIRST, "user_id": "a b,c=d%5C", "device_id": 'x "y"', "way": "iot", "temperature": -0.1
    }  # fmt: skip
    (types,) = server.query(f'SHOW FIELD KEYS FROM "{unique}"')
    kinds = dict(types["values"])
    assert (kinds["battery"], kinds["temperature"], kinds["ok"], kinds["mode"], kinds["whole"]) == (
        "integer", "float", "boolean", "string", "float",
    )  # fmt: skip
    await made.close()


async def test_the_same_again_is_the_same_point(server: InfluxServer, unique: str) -> None:
    made = sink(server.url, influx_measurement=unique)
    records = [sink_record(n, seconds=n, temperature=n) for n in range(100)]
    await write(made, *records)
    await write(made, *records[50:])
    assert [point["temperature"] for point in server.points(unique)] == list(range(100))
    await made.close()


async def test_readings_of_one_time_may_be_kept_apart(server: InfluxServer, unique: str) -> None:
    for place, count in (("none", 1), ("tag", 2)):
        made = sink(server.url, influx_measurement=unique + place, influx_sequence_id=place)
        await write(made, sink_record(1, temperature=1), sink_record(2, temperature=2))
        assert len(server.points(unique + place)) == count
        await made.close()


async def test_a_bad_line_is_refused_alone(server: InfluxServer, unique: str) -> None:
    """A value of another type than on the server: no retry helps, and the other lines are taken."""
    made = sink(server.url, influx_measurement=unique)
    await write(made, sink_record(0, mode=1))
    records = [sink_record(n, seconds=n, mode="on" if n in (3, 40) else n) for n in range(1, 100)]
    for _ in range(2):
        refused = await write(made, *records)
        assert [offset for offset, _ in refused] == [3, 40]
        assert all("field type conflict" in why and '"mode"' in why for _, why in refused)
    assert [point["mode"] for point in server.points(unique)] == [1, *(n for n in range(1, 100) if n not in (3, 40))]
    await made.close()


async def test_what_is_older_than_the_server_keeps_is_refused(server: InfluxServer, unique: str) -> None:
    server.query(f'CREATE RETENTION POLICY "{unique}" ON "iot" DURATION 1d REPLICATION 1')
    made = sink(server.url, influx_bucket=f"iot/{unique}", influx_measurement=unique)
    since = (datetime.now(UTC) - START).total_seconds() - 1000
    records = [sink_record(n, seconds=n if n % 3 else since + n, temperature=n) for n in range(300)]
    refused = await write(made, *records)
    assert sorted(offset for offset, _ in refused) == [n for n in range(300) if n % 3]
    assert "beyond retention policy" in refused[0][1]
    (found,) = server.query(f'SELECT count("temperature") FROM "iot"."{unique}"."{unique}"')
    assert found["values"][0][1] == 100
    await made.close()


async def test_a_user_with_a_separate_measurement_affects_no_other(server: InfluxServer, unique: str) -> None:
    made = sink(server.url, influx_measurement=f"{unique}.{{user}}")
    records = [sink_record(1, user="a", mode=1), sink_record(2, user="b", mode="on"), sink_record(3, user="a", mode=2)]
    assert await write(made, *records) == []
    assert len(server.points(f"{unique}.a")) == 1
    assert server.points(f"{unique}.b")[0]["mode"] == "on"
    await made.close()


async def test_whole_numbers_as_sent(server: InfluxServer, unique: str) -> None:
    made = sink(server.url, influx_measurement=unique, influx_extra_numbers="as_sent")
    assert await write(made, sink_record(1, n=2**53 + 1), sink_record(2, seconds=2, n=3)) == []
    assert [point["n"] for point in server.points(unique)] == [2**53 + 1, 3]
    ((offset, _),) = await write(made, sink_record(3, seconds=3, n=3.5))
    assert offset == 3
    await made.close()


async def test_compressed(server: InfluxServer, unique: str) -> None:
    made = sink(server.url, influx_measurement=unique, influx_gzip=True)
    await write(made, *(sink_record(n, seconds=n, temperature=n) for n in range(1000)))
    assert len(server.points(unique)) == 1000
    await made.close()


async def test_requests_are_of_a_bounded_size(
    server: InfluxServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influx_sink, "REQUEST_MAX", 5000)
    made = sink(server.url, influx_measurement=unique, influx_batch=30)
    records = [sink_record(n, seconds=n, temperature=n, text="x" * (n % 400)) for n in range(100)]
    records.append(sink_record(100, seconds=100, text="x" * 20_000))
    made.add(records[:20])
    assert not made.due
    made.add(records[20:40])
    assert made.due
    made.add(records[40:])
    assert dict((await made.flush()).upto) == {0: 101}
    assert len(server.points(unique)) == 101
    await made.close()


async def test_a_line_longer_than_a_request(server: InfluxServer, unique: str) -> None:
    made = sink(server.url, influx_measurement=unique)
    parts: dict[str, Any] = {f"f{number}": "x" * 60_000 for number in range(17)}
    assert await write(made, sink_record(1, **parts), sink_record(2, seconds=2, temperature=1)) == []
    assert len(server.points(unique)) == 2
    await made.close()


async def test_accounts(unique: str, server_dir: Path, tmp_path: Path) -> None:
    with running(InfluxServer(server_dir, account=True)) as server:
        file = tmp_path / "password"
        file.write_text(f"{PASSWORD}\n")
        made = sink(server.url, influx_username=ACCOUNT, influx_password_file=file)
        await made.open()
        await write(made, sink_record(temperature=1))
        account = {"influx_username": ACCOUNT, "influx_password": PASSWORD}
        cases: list[tuple[dict[str, Any], str]] = [
            (account | {"influx_password": "wrong"}, "IOT_INFLUX_USERNAME"),
            ({}, "IOT_INFLUX_USERNAME"),
            ({"influx_token": "wrong"}, "IOT_INFLUX_TOKEN"),
            (account | {"influx_bucket": "gone"}, "IOT_INFLUX_BUCKET"),
            (account | {"influx_bucket": "iot/gone"}, "IOT_INFLUX_BUCKET"),
        ]
        for wrong, words in cases:
            other = sink(server.url, **wrong)
            with pytest.raises(SinkMisconfigured, match=words) as caught:
                await other.open()
            assert PASSWORD not in str(caught.value)
            await other.close()
        file.write_text("another")
        server.query(f"SET PASSWORD FOR \"{ACCOUNT}\" = 'another'")
        made.add([sink_record(2, seconds=2, temperature=2)])
        with pytest.raises(SinkUnavailable):  # the connection still has the old password
            await made.flush()
        assert dict((await made.flush()).upto)
        await made.close()


async def test_a_database_that_goes_and_comes_back(server: InfluxServer, unique: str) -> None:
    server.query(f'CREATE DATABASE "{unique}"')
    made = sink(server.url, influx_bucket=unique)
    await made.open()
    server.query(f'DROP DATABASE "{unique}"')
    made.add([sink_record(temperature=1)])
    with pytest.raises(SinkUnavailable) as caught:
        await made.flush()
    assert "IOT_INFLUX_BUCKET" in caught.value.cure
    server.query(f'CREATE DATABASE "{unique}"')
    assert dict((await made.flush()).upto)
    await made.close()


async def test_tls_is_verified(certificates: Certificates, server_dir: Path) -> None:
    with running(InfluxServer(server_dir, certificates)) as server:
        made = sink(server.url, influx_ca_file=certificates.ca)
        await made.open()
        await write(made, sink_record(temperature=1))
        await made.close()
        for ca in (certificates.strange_ca, None):
            strange = sink(server.url, influx_ca_file=ca)
            with pytest.raises(SinkUnavailable, match="IOT_INFLUX_CA_FILE"):
                await strange.open()
            await strange.close()
        plain = sink(server.url.replace("https", "http"))
        with pytest.raises((SinkUnavailable, SinkMisconfigured)):
            await plain.open()
        await plain.close()


async def test_the_server_killed_loses_nothing(unique: str, server_dir: Path) -> None:
    with running(InfluxServer(server_dir)) as server:
        made = sink(server.url)
        await write(made, sink_record(1, temperature=1))
        server.process.kill()
        made.add([sink_record(2, seconds=2, temperature=2)])
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match="cannot be reached"):
                await made.flush()
        assert offsets(made._records) == [2]
        server.start()
        server.wait_ready()
        found = await made.flush()
        assert dict(found.upto) == {0: 3}
        assert [point["temperature"] for point in server.points()] == [1, 2]
        await made.close()


async def test_the_server_frozen_is_away_and_is_asked_for_less(unique: str, server_dir: Path) -> None:
    with running(InfluxServer(server_dir)) as server:
        made = sink(server.url, influx_timeout=0.3)
        records = [sink_record(n, seconds=n, temperature=n) for n in range(1000)]
        made.add(records)
        held = made.held
        with frozen(server):
            for count in (1000, 500, 250, 125):
                assert made._count() == count
                with pytest.raises(SinkUnavailable, match="does not answer within"):
                    await made.flush()
            assert made.held == held
            flush = asyncio.create_task(made.flush())
            await asyncio.sleep(0.1)
            flush.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flush
            assert made.held == held
        assert dict(await thawed(made)) == {0: 1000}
        assert made.held == Held()
        assert len(server.points()) == 1000
        await made.close()


async def test_what_is_revoked_is_not_written(server: InfluxServer, unique: str) -> None:
    made = sink(server.url, influx_measurement=unique)
    made.add([sink_record(1, device="a", temperature=1), sink_record(9, device="b", partition=1, temperature=1)])
    await made.revoked([0])
    assert made.held.records == 1
    assert dict((await made.flush()).upto) == {1: 10}
    assert [point["device_id"] for point in server.points(unique)] == ["b"]
    await made.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_victoria_metrics(victoria: VictoriaServer, unique: str, version: int) -> None:
    made = sink(victoria.url, influx_version=version, influx_measurement=f"{unique}v{version}")
    await made.open()
    more: dict[str, Any] = {"ok": True, "text": "a\nb", "oil": {"t": 1}}
    records = [sink_record(n, seconds=n, temperature=n, battery=-n, **more) for n in range(100)]
    assert await write(made, *records) == []
    times = [FIRST // 1000 + 1000 * n for n in range(100)]
    for name, sign in (("temperature", 1), ("battery", -1)):
        ((labels, samples),) = victoria.series(f"{unique}v{version}_{name}")
        assert (labels["user_id"], labels["device_id"]) == ("alice", "truck-1")
        assert samples == [(sign * n, time) for n, time in enumerate(times)]
    for name in ("ok", "oil.t"):
        ((_, samples),) = victoria.series(f"{unique}v{version}_{name}")
        assert {value for value, _ in samples} == {1}
    await made.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "IOT_INFLUX_URL is not set"),
        ({"influx_url": "http://db?org=x"}, "IOT_INFLUX_URL has parameters"),
        ({"influx_url": "http://u:p@db", "influx_token": "t"}, "IOT_INFLUX_TOKEN, and an account"),
        ({"influx_url": "http://db", "influx_password": "p"}, "IOT_INFLUX_USERNAME is not"),
        ({"influx_url": "http://db", "influx_token": "two\nlines"}, "IOT_INFLUX_TOKEN"),
        ({"influx_url": "http://db", "sink_kinds": "telemetry,status"}, "IOT_SINK_KINDS"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SinkMisconfigured, match=words):
        InfluxSink("influx", Settings(_env_file=None, **settings))


def test_tls_files_without_tls_are_refused(certificates: Certificates) -> None:
    with pytest.raises(SinkMisconfigured, match="IOT_INFLUX_CA_FILE: nothing is encrypted"):
        sink("http://db", influx_ca_file=certificates.ca)


def test_a_sample_shows_the_lines() -> None:
    (line,) = sink("http://db").shown([sink_record(temperature=1)])
    assert line == f"telemetry,user_id=alice,device_id=truck-1 temperature=1.0 {FIRST}"
