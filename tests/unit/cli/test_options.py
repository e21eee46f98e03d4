"""What several commands share."""

import pytest
import typer

from app.cli.options import ways_in, ways_out
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
