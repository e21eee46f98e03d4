"""Why a request is refused as a whole, and the ways to say so: problem JSON (RFC 9457), and the two of InfluxDB.

An answer speaks of items of which Kafka has acknowledged every one that it calls accepted.
"""

from collections.abc import Sequence
from http import HTTPStatus
from math import ceil
from typing import Protocol

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from msgspec import UNSET, Struct, UnsetType

from app.core.model.records import Reason
from app.gateways.http.ready_answer import SERVER, AnswerHead, ReadyAnswer

# nginx and Apache take 8 kB a line; the two numbers differ so that an error shows which of them sent it.
TARGET_BYTES, FIELD_BYTES = 8190, 8192
FIELDS = 64  # a browser sends 15, a proxy adds 5
HEAD_LIMITS = {"max_line_size": TARGET_BYTES, "max_field_size": FIELD_BYTES, "max_headers": FIELDS}  # to aiohttp
HEAD_BYTES = 64 << 10  # of one head that is not there whole: what a connection may make this process keep
JSON, PROBLEM_JSON = "application/json", "application/problem+json"
RETRY_SECONDS = 5.0  # where nobody knows how long the cause lasts: Kafka or the accounts are away, or there is no room


class Problem(Struct, frozen=True):
    """What is wrong with a request, in this gateway's own words."""

    status: HTTPStatus
    reason: str  # for machines; the label of a metric, so from a closed set
    detail: str
    retry_after: float | None = None  # seconds
    headers: tuple[tuple[str, str], ...] = ()


class RejectedItem(Struct):
    """An item that was not taken, and would not be taken if it came again: the sender has to mend the item."""

    index: int
    reason: str
    error: str


class WriteAnswer(Struct):
    """Kafka has `accepted` items of the request; the others are named, by their place in it (from 0)."""

    accepted: int
    rejected: list[RejectedItem]


class ProblemAnswer(Struct, kw_only=True):
    """A problem as RFC 9457 has it. `accepted` and `rejected` are there if the items were looked at one by one."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    reason: str
    accepted: int | UnsetType = UNSET
    rejected: list[RejectedItem] | UnsetType = UNSET


class Dialect(Protocol):
    """The form in which a client understands answers."""

    def accepted(self, count: int, rejected: Sequence[RejectedItem], retry_after: float | None) -> web.StreamResponse:
        """The answer for items of which `count`, at least one, were accepted, or none was sent; `retry_after`: seconds
        until those over a limit may come again, None: none is.
        """

    def refused(self, problem: Problem, rejected: Sequence[RejectedItem] = ()) -> web.Response:
        """The answer for a request of which nothing was accepted; `rejected` if its items were looked at."""


_encode = msgspec.json.Encoder().encode
ACCEPTED = AnswerHead(HTTPStatus.OK, (("Content-Type", JSON),))
ONE = _encode(WriteAnswer(1, []))


class NativeDialect:
    """Answers in JSON of our own."""

    def accepted(self, count: int, rejected: Sequence[RejectedItem], retry_after: float | None) -> web.StreamResponse:
        """The answer 200 with both counts."""
        if not rejected:
            return ReadyAnswer(ACCEPTED, ONE if count == 1 else _encode(WriteAnswer(count, [])))
        return response(HTTPStatus.OK, _encode(WriteAnswer(count, list(rejected))), JSON, after(retry_after))

    def refused(self, problem: Problem, rejected: Sequence[RejectedItem] = ()) -> web.Response:
        """The answer as problem JSON, with the problem's status."""
        return response(
            problem.status, problem_json(problem, rejected), PROBLEM_JSON, problem.headers + after(problem.retry_after)
        )


NATIVE = NativeDialect()


def response(
    status: HTTPStatus, body: bytes, content_type: str, headers: Sequence[tuple[str, str]] = ()
) -> web.Response:
    """A response of this gateway with the header Server, and `headers` behind it."""
    return web.Response(
        status=status, body=body, headers=(("Content-Type", content_type), ("Server", SERVER), *headers)
    )


def answer_head(problem: Problem) -> AnswerHead:
    """The head of the answer as problem JSON, where aiohttp does not write it."""
    headers = (("Content-Type", PROBLEM_JSON), *problem.headers, *after(problem.retry_after))
    return AnswerHead(problem.status, headers)


def after(seconds: float | None) -> tuple[tuple[str, str], ...]:
    """The header that says when to try again, in whole seconds, at least one; none for None."""
    return () if seconds is None else (("Retry-After", str(max(1, ceil(seconds)))),)


def problem_json(problem: Problem, rejected: Sequence[RejectedItem] = ()) -> bytes:
    """The body of a problem; `rejected` if its items were looked at."""
    status = problem.status
    answer = ProblemAnswer(title=status.phrase, status=status.value, detail=problem.detail, reason=problem.reason)
    if rejected:
        answer.accepted, answer.rejected = 0, list(rejected)
    return _encode(answer)


def whole(problem: Problem) -> bytes:
    """The bytes of an answer that ends its connection, for a client that has sent no request that could be answered."""
    body = problem_json(problem)
    lines = [
        f"HTTP/1.1 {problem.status.value} {problem.status.phrase}",
        f"Content-Type: {PROBLEM_JSON}",
        f"Content-Length: {len(body)}",
        f"Server: {SERVER}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (*problem.headers, *after(problem.retry_after))),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


_STATUS = {
    Reason.PAYLOAD_TOO_LARGE.value: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Reason.RATE_LIMITED.value: HTTPStatus.TOO_MANY_REQUESTS,
    "not_allowed": HTTPStatus.FORBIDDEN,
}


def of_items(rejected: Sequence[RejectedItem], retry_after: float | None) -> Problem:
    """The problem of a request of whose items, at least one, none was accepted; of several reasons the first item's
    counts, but that to wait helps goes before (`retry_after` seconds).
    """
    first = rejected[0]
    if retry_after is not None:
        first = next(one for one in rejected if one.reason == Reason.RATE_LIMITED.value)
    status = _STATUS.get(first.reason, HTTPStatus.BAD_REQUEST)
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    return Problem(status, first.reason, first.error + more, retry_after)


def of_failure(error: BaseException | None) -> Problem:
    """The problem of bytes that aiohttp's parser does not take, of a client that is gone, and else of a bug (BUG)."""
    if isinstance(error, HttpProcessingError):
        return _malformed(error)
    return _GONE if isinstance(error, ConnectionError) else BUG


def _malformed(error: HttpProcessingError) -> Problem:
    if isinstance(error, LineTooLong):
        if error.args[1] == TARGET_BYTES:
            detail = f"the target of the request is longer than {TARGET_BYTES} bytes"
            return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, "target_too_long", detail)
        return HEAD_TOO_LARGE
    if error.message.startswith("Too many headers"):
        return HEAD_TOO_LARGE
    first = error.message.partition("\n")[0].rstrip(":")
    return Problem(HTTPStatus.BAD_REQUEST, "bad_request", f"the bytes are no request of HTTP/1.1: {first[:100]}")


HEAD_TOO_LARGE = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"at most {FIELDS} header fields of {FIELD_BYTES} bytes each, {HEAD_BYTES} in all, are taken",
)
SLOW_HEAD = Problem(HTTPStatus.REQUEST_TIMEOUT, "slow_head", "the head of the request took too long")
_GONE = Problem(HTTPStatus.BAD_REQUEST, "gone", "the client went away")
BUG = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "the gateway failed at this request; the gateway's log says why"
)
