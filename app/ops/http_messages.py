"""One HTTP request and its answer: in, the head of a request, or an answer; out, what is asked for, or its bytes."""

from http import HTTPStatus
from typing import NamedTuple

HEAD_BYTES = 8 << 10  # a request of Prometheus has 300


class Request(NamedTuple):
    """What is asked for; `path` without its query. Of its headers, those that say how the answer may be written."""

    method: str
    path: str
    version: str
    accept: str = ""
    accept_encoding: str = ""


class Response(NamedTuple):
    """What is answered."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    more: tuple[str, ...] = ()  # header lines


def parse(head: bytes) -> Request | None:
    """The request whose head this is, up to and with the empty line; None when it is none of HTTP/1.0 or 1.1, or asks
    for no path. Never raises.
    """
    line, *fields = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1") or not words[1].startswith("/"):
        return None
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    path = words[1].partition("?")[0]
    return Request(words[0], path, words[2], headers.get("accept", ""), headers.get("accept-encoding", ""))


def wrong(status: HTTPStatus, *more: str) -> Response:
    """An answer that says no: its status in words, as plain text; `more` are header lines."""
    return Response(status, f"{status.value}: {status.phrase}\n".encode(), more=more)


def written(answer: Response, request: Request | None = None) -> bytes:
    """The bytes of an answer, the last on its connection: without its body when `request` is a HEAD, and in the
    request's version of HTTP; None: 1.1.
    """
    version = request.version if request else "HTTP/1.1"
    lines = [
        f"{version} {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        *answer.more,
    ]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if request and request.method == "HEAD" else head + answer.body
