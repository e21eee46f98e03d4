"""What several commands share."""

import time
from datetime import UTC, datetime

import pytest
import typer

from app.cli.options import moment, ways_in, ways_out
from app.local.layout import SINKS, WAYS


def test_ways_are_named_by_commas_in_any_order() -> None:
    assert ways_in("") == ()
    assert ways_in(" quic, HTTP ,") == ("http", "quic")
    assert ways_in("all") == ways_in("tcp,all") == WAYS


def test_a_way_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(typer.BadParameter) as refused:
        ways_in("http,coap")
    assert str(refused.value) == "'coap': name http, tcp, grpc, quic, or all"


def test_ways_out_are_named_as_ways_in_are() -> None:
    assert ways_out("redis,parquet") == ("parquet", "redis")
    assert ways_out("all") == SINKS
    with pytest.raises(typer.BadParameter) as refused:
        ways_out("parquet,kafka")
    assert str(refused.value).startswith("'kafka': name parquet, influx, redis, http_feed, grpc, or all")
    assert refused.value.param_hint == "--sinks"


def test_a_moment_is_an_age_or_a_time() -> None:
    before = int(time.time() * 1000) - 12 * 3_600_000
    aged = moment("12h", "--since")
    assert aged is not None
    assert before <= aged <= int(time.time() * 1000) - 12 * 3_600_000 + 1
    assert moment("2026-11-21T10:00:00+01:00", "--since") == datetime(2026, 11, 21, 9, tzinfo=UTC).timestamp() * 1000
    assert moment(None, "--since") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yesterday", "neither an age such as 90s, 15m, 12h, 7d or 2w, nor a time such as 2026-11-21T09:00:00Z"),
        ("-5h", "neither an age"),
        ("0s", "neither an age"),
        ("2026-11-21T09:00:00", "write 2026-11-21T09:00:00Z for UTC"),
    ],
)
def test_a_wrong_moment_is_named_with_both_forms(text: str, said: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        moment(text, "--until")
    assert said in str(refused.value)
    assert refused.value.param_hint == "--until"
