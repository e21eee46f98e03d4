"""What a failed call says, in one line, and what kind of failure it is."""

import grpc
import pytest

from app.runtime.rpc.failed_call import CLOSED_HINT, is_too_large, status_of, wanted_pause, was_cut, words
from tests.unit.client.test_failures import StatusError

Status = grpc.StatusCode
FAILED = "failed to connect to all addresses"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StatusError(Status.ABORTED, "a\n b"), "ABORTED: a b"),
        (
            StatusError(Status.UNAVAILABLE, f"{FAILED}; last error: UNKNOWN: ipv4:x: refused"),
            "UNAVAILABLE: ipv4:x: refused",
        ),
        (
            StatusError(Status.UNAVAILABLE, f"{FAILED}; last error: UNKNOWN: x: Socket closed"),
            f"UNAVAILABLE: x: Socket closed{CLOSED_HINT}",
        ),
        (grpc.RpcError(), "UNKNOWN: "),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_it_is_said_in_one_line(error: BaseException, said: str) -> None:
    assert words(error) == said


def test_kinds_of_failures() -> None:
    assert status_of(StatusError(Status.ABORTED)) is Status.ABORTED
    assert was_cut(StatusError(Status.UNKNOWN, "Stream removed"))
    assert not was_cut(StatusError(Status.UNKNOWN, "Unexpected <class 'ValueError'>"))
    assert is_too_large(StatusError(Status.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (5 vs. 4)"))
    assert not is_too_large(StatusError(Status.RESOURCE_EXHAUSTED, "over a limit"))
    assert wanted_pause(StatusError(Status.UNAVAILABLE, "", (("retry-after-ms", "250"),))) == 0.25
    assert wanted_pause(StatusError(Status.UNAVAILABLE)) is None
