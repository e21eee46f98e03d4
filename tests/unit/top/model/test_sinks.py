"""Pages of sinks in; out, who is who, how far each is, and whom its limit of series strikes."""

from app.top.model.deployment import Deployment
from tests.unit.top.deployments import SinkPage, WorkerPage, answered

WORKER, PARQUET, REDIS = "http://w:9000", "http://p:9007", "http://r:9009"


def test_a_row_for_each() -> None:
    model = Deployment()
    for at, written in ((10.0, 100), (20.0, 350)):
        pages = [
            answered(WORKER, at, WorkerPage().text()),
            answered(REDIS, at, SinkPage("redis", outcomes={"written": written, "skipped": 3}, lag=4).text()),
            answered(PARQUET, at, SinkPage("archive", held=50, lag=60, breaker=1.0, lost=2).text()),
        ]
        found = model.take(at, 2000.0 + at, pages)
    assert [row.name for row in found.programs] == ["worker 1", "sink redis", "sink archive"]
    assert found.programs[1].per_second == 25
    archive, redis = found.sinks
    assert (archive.sink, archive.program, archive.breaker, archive.held_bytes) == (
        "archive",
        "sink archive",
        "open",
        5000,
    )
    assert (archive.lag, archive.waiting, archive.per_second, archive.difference) == (60, 7.0, 0, 2)
    assert (redis.sink, redis.per_second, redis.lag, redis.breaker) == ("redis", 25, 4, "closed")
    assert redis.outcomes == {"written": 350, "skipped": 3}
    assert redis.difference == 0
    assert found.books.received == 0, "the books of the workers are of the workers alone"


def test_who_drives_the_series_up_is_named() -> None:
    page = SinkPage("influx", series=(100_000, 100_000), dropped={"alice": 5, "mallory\x1b[2J": 7_000})
    (row,) = Deployment().take(1.0, 2000.0, [answered("http://i:9008", 1.0, page.text())]).sinks
    assert (row.series, row.series_limit, row.series_dropped) == (100_000, 100_000, 7_005)
    assert row.most_series == "mallory?[2J 7,000"


def test_two_of_one_name_are_told_apart() -> None:
    pages = [answered(url, 1.0, SinkPage("redis", lag=lag).text()) for url, lag in ((REDIS, 1), ("http://r2:9009", 2))]
    found = Deployment().take(1.0, 2000.0, pages)
    assert [(row.program, row.lag) for row in found.sinks] == [("sink redis 1", 1), ("sink redis 2", 2)]
