"""The failure of a call -> whether to try again, and when; and what a client raises when a repeat is of no use.

An error has the items that were not acknowledged: nothing is lost by a failure, as the caller has the items. Some of
them may be in Kafka all the same, as an ack may be lost on its way; items that are sent again are stored once.
"""

from collections.abc import Sequence

import grpc

from app.client.pace import Pace
from app.client.sent_batch import Item
from app.errors import PermanentError, TransientError
from app.runtime.retry import delay
from app.runtime.rpc.failed_call import call_may_pass, wanted_pause, words

BELIEVED = 3  # times in a row that a gateway may say "at once"


class NotAckedError(TransientError):
    """The gateway could not be reached, or did not answer, within the patience of the client; `items` have no ack."""

    def __init__(self, message: str, items: Sequence[Item] = ()) -> None:
        super().__init__(message)
        self.items = items


class GatewayRefusedError(PermanentError):
    """The gateway answers, and refuses the call: str() says why; `items` have no ack."""

    def __init__(self, message: str, items: Sequence[Item] = ()) -> None:
        super().__init__(message)
        self.items = items


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: for an RpcError by its code and words, else for a TransientError or
    TimeoutError.
    """
    if isinstance(error, grpc.RpcError):
        return call_may_pass(error)
    return isinstance(error, TransientError | TimeoutError)


def pause_after(error: BaseException, failures: int, pace: Pace) -> float:
    """Seconds until the next try after so many failures in a row (1: the first).

    A pause that the gateway asks for is kept, unless it was of no use several times: then the pauses grow all the same.
    """
    own = delay(failures - 1, pace.first_pause, pace.longest_pause)
    wanted = wanted_pause(error)
    if wanted is None:
        return own
    return wanted if failures <= BELIEVED else max(wanted, own)


def refused(error: BaseException, items: Sequence[Item] = ()) -> GatewayRefusedError:
    """The error to raise for a failure that does not pass; `items` have no ack."""
    return GatewayRefusedError(f"the gateway refuses: {words(error)}", items)


def given_up(error: BaseException, seconds: float, items: Sequence[Item] = ()) -> NotAckedError:
    """The error to raise for a failure that has not passed in `seconds`; `items` have no ack."""
    return NotAckedError(f"no ack within {seconds:g} s: {words(error)}", items)
