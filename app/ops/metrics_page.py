"""/metrics: in, what the reader accepts; out, the page, as OpenMetrics with exemplars or as Prometheus text.

All figures are of one moment. Writing them down takes several milliseconds, so the loop serves others in between.
"""

import asyncio
import gzip
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from prometheus_client import REGISTRY, Metric, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from app.ops.http_messages import Request, Response

# A second series for every counter and histogram, of no use to Prometheus.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has not typed it

SLICE_SECONDS = 0.002  # of writing, and then it is somebody else's turn
END = b"# EOF\n"  # of OpenMetrics
QUICK = 1  # gzip: a sixth of the size for 0.5 ms


class _Family(Collector):
    """One metric, as a registry of its own: the encoders take nothing less."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


async def metrics_page(request: Request) -> Response:
    """The answer to a request of Prometheus: OpenMetrics where the reader accepts it, else its text format 0.0.4,
    packed with gzip where the reader accepts gzip.
    """
    encode, content_type = _encoder(request.accept)
    strict = content_type.startswith("application/openmetrics-text")
    began, parts = time.perf_counter(), []
    for family in list(REGISTRY.collect()):
        if time.perf_counter() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()
        parts.append(encode(_Family(_strictly(family) if strict else family)).removesuffix(END))
    body = b"".join(parts) + (END if strict else b"")
    more = ("Vary: Accept, Accept-Encoding",)
    if gzip_accepted(request.accept_encoding):
        return Response(HTTPStatus.OK, gzip.compress(body, QUICK), content_type, (*more, "Content-Encoding: gzip"))
    return Response(HTTPStatus.OK, body, content_type, more)


def _strictly(family: Metric) -> Metric:
    """OpenMetrics has a histogram with buckets below zero without a sum, and then without a count: +Inf is the same."""
    if family.type != "histogram" or any(one.name.endswith("_sum") for one in family.samples):
        return family
    found = Metric(family.name, family.documentation, family.type)
    found.samples = [one for one in family.samples if not one.name.endswith("_count")]
    return found


def _encoder(accept: str) -> tuple[Any, str]:
    """The encoder that the reader prefers; a reader that asks for an unknown version gets the plain text format."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # the client library compares what is no version
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
