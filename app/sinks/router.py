"""Which sinks there are and how each is set: IOT_SINKS and the tables [sinks.NAME] in; instances out."""

import importlib
from collections.abc import Mapping
from typing import NamedTuple

from app.errors import PermanentError
from app.settings import Settings
from app.sinks.port import Sink


class SinkKind(NamedTuple):
    """A kind of sink: where its class is, what its settings begin with, where its metrics are."""

    module: str  # of app.sinks
    made_by: str  # the class in it
    prefix: str  # of its settings, without IOT_
    metrics_port: int
    extra: str  # of the package, which has what it imports


KINDS: Mapping[str, SinkKind] = {
    "parquet": SinkKind("parquet.sink", "ParquetSink", "parquet", 9007, "sinks"),
    "influx": SinkKind("influx.sink", "InfluxSink", "influx", 9008, "sinks"),
    "redis": SinkKind("redis.sink", "RedisSink", "redis", 9009, "sinks"),
    "http_feed": SinkKind("feed.sink", "FeedSink", "feed", 9010, "sinks"),
    "grpc": SinkKind("grpc_push.sink", "GrpcPushSink", "grpc_push", 9011, "gateways"),
}


def build_sink(name: str, kind: str, settings: Settings) -> Sink:
    """A sink that is not connected yet; `kind` is one of KINDS, `settings` are those of this instance.

    Raises PermanentError when a package is not installed, SinkMisconfigured as the sink does.
    """
    of = KINDS[kind]
    try:
        module = importlib.import_module(f"app.sinks.{of.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("app."):
            raise
        install = f"pip install 'iot-stream[{of.extra}]'"
        raise PermanentError(f"the sink {name} needs the package {error.name}: {install}") from None
    made: Sink = getattr(module, of.made_by)(name, settings)
    return made
