"""What the doctor makes of a sink's page."""

from app.doctor.finding import Finding, Level
from app.doctor.programs.workers import look
from app.settings import Settings
from tests.unit.top.deployments import SinkPage, serving

READY = b'{"checks": {"kafka": true, "redis": true}}'


async def looked(page: SinkPage, ready: bytes = READY, status: int = 200) -> list[Finding]:
    async with serving(metrics=(200, page.text()), ready=(status, ready)) as served:
        found = await look(Settings(_env_file=None), [served.url])
    assert {one.area for one in found} == {"sink"}
    assert all(one.cure for one in found if one.level)
    return [one._replace(what=one.what.removeprefix(f"{served.url}: ")) for one in found]


async def test_one_that_is_well() -> None:
    (found,) = await looked(
        SinkPage("redis", outcomes={"written": 1000, "skipped": 20}, held=5, lag=7, series=(9, 100))
    )
    said = "redis: the books balance, 1,000 written of 1,025 records since its start, 7 are not done"
    assert found == Finding(Level.OK, "sink", said)


async def test_a_record_that_is_nowhere() -> None:
    (found,) = await looked(SinkPage("redis", outcomes={"written": 10, "filtered": 2}, held=1, lost=3))
    assert found.level is Level.BROKEN
    said = "redis: the books do not balance: received 16, filtered 2 + written 10 + held 1"
    assert found.what == said


async def test_a_destination_that_is_away_and_what_it_refuses() -> None:
    ready = b'{"checks": {"kafka": true, "redis": false}, "advice": {"redis": "look at IOT_REDIS_URL"}}'
    page = SinkPage("redis", outcomes={"written": 10, "refused": 4}, breaker=1.0)
    _, away, refused, not_ready = await looked(page, ready, 503)
    assert away.what == "redis: the circuit is open: its destination is away, Kafka keeps it"
    assert away.cure == "look at IOT_REDIS_URL"
    assert refused.what == "redis: its destination refuses 4 records for ever; they are dead letters"
    assert not_ready.what.endswith("is not ready: redis")
    assert {away.level, refused.level, not_ready.level} == {Level.WARNING}


async def test_series_near_the_limit_and_beyond() -> None:
    near = (await looked(SinkPage("influx", series=(81_000, 100_000))))[1]
    assert near.what == "influx: it knows 81,000 series, and may 100,000"
    beyond = (await looked(SinkPage("influx", series=(100_000, 100_000), dropped={"eve": 9, "bob": 30})))[1]
    assert beyond.what == "influx: 39 values of new series were dropped (sink 39)"
    assert beyond.cure == "users with most: bob 30, eve 9; see docs/sinks.md on series"
    assert len(await looked(SinkPage("influx", series=(500_000, 0)))) == 1, "without a limit none is near it"


async def test_what_kafka_has_lost() -> None:
    _, anew, missed = await looked(SinkPage("parquet", anew=2, missed=1_500))
    assert anew.level is Level.WARNING
    assert anew.what == "parquet: the input topic is another one than before, or was cut: 2 partitions began anew"
    assert missed.level is Level.BROKEN
    assert missed.what == "parquet: Kafka had removed 1,500 records before they were read"
