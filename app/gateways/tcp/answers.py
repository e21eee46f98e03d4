"""What the gateway says on a connection: one JSON object a line.

{"ok":true}                                              to a login line
{"acked":500}                                            all lines up to this one are settled: in Kafka, or refused
{"line":3,"reason":"bad_json","error":"..."}             one line is refused; always before the ack that covers it
{"ok":false,"reason":"idle","error":"..."}               the last word: the connection ends
"""

import msgspec

from app.core.model.fault import printable
from app.gateways.telemetry_record import Rejection

OK = b'{"ok":true}\n'
ERROR_MAX = 300  # characters; an error may quote what was sent
_encode = msgspec.json.Encoder().encode


def acked(line: int) -> bytes:
    """The answer that all lines up to `line` (from 1) are settled."""
    return b'{"acked":%d}\n' % line


def refused(line: int, rejection: Rejection, retry_after: float | None = None) -> bytes:
    """The answer that one line is refused; `retry_after`, in seconds, if it may be sent again."""
    answer = {"line": line, "reason": rejection.reason, "error": printable(rejection.error, ERROR_MAX)}
    if retry_after is not None:
        answer["retry_after"] = round(retry_after, 3)
    return _encode(answer) + b"\n"


def closing(reason: str, error: str) -> bytes:
    """The last word of a connection that ends: the reason for machines, and a sentence."""
    return _encode({"ok": False, "reason": reason, "error": printable(error, ERROR_MAX)}) + b"\n"


STOPPING = closing("stopping", "the gateway stops: connect again, and send what has no ack")
