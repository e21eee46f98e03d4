"""Which failures pass, and how long is waited after each."""

from typing import Any

import grpc
import pytest

from app.client.failures import given_up, may_pass, pause_after, refused
from app.client.pace import Pace
from app.errors import PermanentError, TransientError
from app.protobuf.events_pb2 import Event
from app.runtime.rpc.failed_call import words

PACE = Pace(first_pause=0.1, longest_pause=1.0)


class StatusError(grpc.RpcError):
    """A status, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode, details: str = "", metadata: Any = ()) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "INTERNAL"}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_a_status_passes_or_does_not(code: grpc.StatusCode) -> None:
    assert may_pass(StatusError(code)) == (code.name in PASSING)


@pytest.mark.parametrize(
    "error",
    [
        StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (5 vs. 4)"),
        StatusError(grpc.StatusCode.UNAVAILABLE, "Ssl handshake failed: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED"),
        grpc.RpcError(),
        ValueError(),
    ],
)
def test_what_no_time_mends_does_not_pass(error: BaseException) -> None:
    assert not may_pass(error)


def test_a_connection_that_ended_first_passes() -> None:
    assert may_pass(StatusError(grpc.StatusCode.UNKNOWN, "Stream removed (Channel closed)"))


def test_a_gateway_that_says_at_once_for_ever_is_not_asked_for_ever_at_once() -> None:
    error = StatusError(grpc.StatusCode.UNAVAILABLE, "", (("retry-after-ms", "1"),))
    assert [pause_after(error, failures, PACE) for failures in (1, 3)] == [0.001, 0.001]
    assert pause_after(error, 9, PACE) >= 0.5


def test_failures_of_no_status_pass_where_they_say_so() -> None:
    assert may_pass(TransientError("no ack within 5 s"))
    assert may_pass(TimeoutError())
    assert not may_pass(PermanentError())


def test_pauses_grow_to_the_longest() -> None:
    away = StatusError(grpc.StatusCode.UNAVAILABLE)
    pauses = [pause_after(away, failures, PACE) for failures in range(1, 9)]
    assert all(0.05 * 2**n <= pause <= 0.1 * 2**n for n, pause in enumerate(pauses[:4]))
    assert all(0.5 <= pause <= 1.0 for pause in pauses[4:])


def test_a_gateway_that_says_when_is_obeyed() -> None:
    def said(value: object) -> float:
        error = StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "", (("x", "1"), ("retry-after-ms", value)))
        return pause_after(error, 1, PACE)

    assert said("2500") == 2.5
    assert said("0") == 0
    assert said("9999999") == 3600
    for nonsense in ("", "-5", "soon", "1e9", "9" * 400, b"2500"):
        assert said(nonsense) <= 0.1


def test_what_is_raised_has_the_words_and_the_items() -> None:
    items = [Event(user_id="u")]
    away = StatusError(grpc.StatusCode.UNAVAILABLE, "failed\nto  connect")
    assert words(away) == "UNAVAILABLE: failed to connect"
    assert (str(given_up(away, 2.5, items)), given_up(away, 2.5, items).items) == (
        "no ack within 2.5 s: UNAVAILABLE: failed to connect",
        items,
    )
    assert (str(refused(away, items)), refused(away, items).items) == (
        "the gateway refuses: UNAVAILABLE: failed to connect",
        items,
    )
    assert words(TimeoutError()) == "TimeoutError"
