"""A refusal's trailing metadata, as gRPC's own and Google's libraries read it."""

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from app.gateways.grpc.refusal import CallRefusal


@pytest.mark.parametrize("seconds", [0.0, 0.0004, 0.25, 1.0, 12.345, 86_400.0])
@pytest.mark.parametrize("detail", ["", "wait", "ü " * 300])
def test_it_says_when_to_try_again_in_three_ways(seconds: float, detail: str) -> None:
    refusal = CallRefusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "x", detail, seconds)
    found = dict(refusal.trailing_metadata)
    milliseconds = max(1, round(seconds * 1000))
    assert found["retry-after-ms"] == found["grpc-retry-pushback-ms"] == str(milliseconds)
    details = found["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status, retry = Status.FromString(details), RetryInfo()
    assert status.details[0].Unpack(retry)
    assert (status.code, status.message) == (8, detail)
    assert retry.retry_delay.ToMilliseconds() == milliseconds


def test_what_would_be_refused_again_says_nothing_of_a_time() -> None:
    assert CallRefusal(grpc.StatusCode.INVALID_ARGUMENT, "x", "y").trailing_metadata == ()
