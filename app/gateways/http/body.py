"""The body of a request -> its bytes, inflated; bounded in bytes before it is read, and in time; or what is wrong."""

import asyncio
from http import HTTPStatus

from aiohttp import StreamReader, hdrs, web

from app.gateways.http.connection import HttpConnection
from app.gateways.http.inflate import CODINGS, Inflation, NotInflated
from app.gateways.http.problem import RETRY_SECONDS, Problem
from app.gateways.room import Room

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CODINGS = (*CODINGS, "identity", "")
_ACCEPTED = ((hdrs.ACCEPT_ENCODING, "gzip, zstd, identity"),)


def fault(request: web.BaseRequest, most: int) -> Problem | None:
    """What can be said against a body before it is read: that it has more than `most` bytes, or a coding that nobody
    here knows; None: nothing.
    """
    headers = request.headers
    coding = headers.get(hdrs.CONTENT_ENCODING)
    if coding is not None and coding.strip().lower() not in _CODINGS:
        detail = f"Content-Encoding {coding[:40]!r} is not known here: send gzip, zstd or nothing"
        return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", detail, headers=_ACCEPTED)
    length = headers.get(hdrs.CONTENT_LENGTH)  # aiohttp's parser has seen that it is digits
    return None if length is None or int(length) <= most else _too_large(most)


class IncomingBody:
    """The body of one request, and the memory that it takes while it is in hand."""

    __slots__ = ("_connection", "_request", "_room", "_size", "_user")

    def __init__(self, request: web.BaseRequest, connection: HttpConnection, room: Room, user: bytes) -> None:
        """`room`: the memory of all of them; `user`: whose it is."""
        self._request, self._connection = request, connection
        self._room, self._user, self._size = room, user, 0

    async def read(self, most: int, seconds: float) -> bytes | Problem:
        """The body, inflated: at most `most` bytes, as sent and inflated, sent within `seconds`; or what is wrong.
        Never raises but for a cancelled task.
        """
        payload = self._request.content
        if payload.is_eof() and payload.exception() is None:  # the body came with the head, as a small body does
            sent = payload.read_nowait(-1)
            if len(sent) > most:
                return _too_large(most)
            if not self._grow(len(sent)):
                return BUSY
            return self._inflated(sent, most)
        found = await self._awaited(payload, most, seconds)
        return found if isinstance(found, Problem) else self._inflated(found, most)

    def release(self) -> None:
        """Give the memory back; to be called once, when the body is not in hand any more."""
        if self._size:
            self._room.give(self._user, self._size)

    async def _awaited(self, payload: StreamReader, most: int, seconds: float) -> bytes | Problem:
        connection = self._connection
        if connection.broken or connection.transport is None:
            return _BROKEN
        if self._request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            connection.transport.write(_CONTINUE)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while part := await payload.readany():
                    size += len(part)
                    if size > most:
                        return _too_large(most)
                    if not self._grow(len(part)):
                        return BUSY
                    parts.append(part)
        except TimeoutError:
            return _SLOW
        except (ConnectionError, web.RequestPayloadError, web.PayloadAccessError):
            return _BROKEN
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _inflated(self, sent: bytes, most: int) -> bytes | Problem:
        """The coding is known: `fault` was asked."""
        coding = self._request.headers.get(hdrs.CONTENT_ENCODING)
        if coding is None or (inflate := CODINGS.get(coding.strip().lower())) is None:
            return sent
        found = inflate(sent, most)
        if not isinstance(found, NotInflated):
            return found if self._grow(len(found)) else BUSY
        if found.why is Inflation.TOO_LARGE:
            return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", found.detail)
        return Problem(HTTPStatus.BAD_REQUEST, "bad_encoding", found.detail)

    def _grow(self, size: int) -> bool:
        """Take so many bytes more; False: there is no room for more, in all or of this user."""
        if self._room.full or self._room.over_share(self._user):
            return False
        self._room.take(self._user, size)
        self._size += size
        return True


def _too_large(most: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"the body has more than {most} bytes: send smaller batches"
    )


BUSY = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "busy",
    "bodies that wait for Kafka fill the room of the gateway, or of this account: send the request again later",
    RETRY_SECONDS,
)
_SLOW = Problem(HTTPStatus.REQUEST_TIMEOUT, "slow_body", "the body of the request took too long")
_BROKEN = Problem(HTTPStatus.BAD_REQUEST, "bad_body", "the body of the request ends too soon, or is not chunked well")
