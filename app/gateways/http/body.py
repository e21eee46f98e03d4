"""The body of a request -> its bytes, inflated; bounded in bytes before it is read, and in time; or what is wrong."""

import asyncio
from http import HTTPStatus

from aiohttp import StreamReader, hdrs, web

from app.gateways.http.connection import HttpConnection
from app.gateways.http.inflate import CODINGS, Inflation, NotInflated
from app.gateways.http.problem import Problem

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ACCEPTED = ((hdrs.ACCEPT_ENCODING, "gzip, zstd, identity"),)
_SLOW = Problem(HTTPStatus.REQUEST_TIMEOUT, "slow_body", "the body of the request took too long")
_BROKEN = Problem(HTTPStatus.BAD_REQUEST, "bad_body", "the body of the request ends too soon, or is not chunked well")


def declared(request: web.BaseRequest, most: int) -> int | Problem:
    """How many bytes the body has as far as its head says; one in chunks may have the most that is allowed.

    What can be said of a body before it is read: that it is too large, or in a coding that nobody here knows.
    """
    headers = request.headers
    coding = headers.get(hdrs.CONTENT_ENCODING)
    if coding is not None and coding.strip().lower() not in (*CODINGS, "identity", ""):
        detail = f"Content-Encoding {coding[:40]!r} is not known here: send gzip, zstd or nothing"
        return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", detail, headers=_ACCEPTED)
    length = headers.get(hdrs.CONTENT_LENGTH)
    if length is None:
        return most if request.body_exists else 0
    size = int(length)  # aiohttp's parser has seen that it is digits
    return size if size <= most else too_large(most)


async def read(request: web.BaseRequest, connection: HttpConnection, most: int, seconds: float) -> bytes | Problem:
    """The body as it was sent, at most `most` bytes within `seconds`. Never raises but for a cancelled task."""
    payload = request.content
    if payload.is_eof() and payload.exception() is None:  # it came with the head, as a small one does
        body = payload.read_nowait(-1)
        return body if len(body) <= most else too_large(most)
    if connection.broken or connection.transport is None:
        return _BROKEN
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        connection.transport.write(_CONTINUE)
    try:
        async with asyncio.timeout(seconds):
            return await _read(payload, most)
    except TimeoutError:
        return _SLOW
    except (ConnectionError, web.RequestPayloadError, web.PayloadAccessError):
        return _BROKEN


async def _read(payload: StreamReader, most: int) -> bytes | Problem:
    parts: list[bytes] = []
    size = 0
    while part := await payload.readany():
        size += len(part)
        if size > most:
            return too_large(most)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def inflated(request: web.BaseRequest, body: bytes, most: int) -> bytes | Problem:
    """What a body holds, at most `most` bytes of it; `declared` has seen that its coding is known."""
    coding = request.headers.get(hdrs.CONTENT_ENCODING)
    if coding is None or (inflate := CODINGS.get(coding.strip().lower())) is None:
        return body
    found = inflate(body, most)
    if not isinstance(found, NotInflated):
        return found
    if found.why is Inflation.TOO_LARGE:
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", found.detail)
    return Problem(HTTPStatus.BAD_REQUEST, "bad_encoding", found.detail)


def too_large(most: int) -> Problem:
    """What is said of a body of more than `most` bytes."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"the body has more than {most} bytes: send smaller batches"
    )
