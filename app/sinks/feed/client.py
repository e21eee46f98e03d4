"""The HTTP endpoint of a feed: a body in; out, the receiver's answer, by its status.

2xx: the receiver has the readings. If the body is a JSON object with a list `rejected` of objects with `index`,
`reason` and `error`, as the gateways of iot-stream answer, only these readings are refused; readings with the reason
`rate_limited` are sent again. 400, 409, 413 and 422: the receiver would never take this body. 500: the receiver failed
on this body. Any other status, redirections included, is an outage that the readings have not caused.
"""

import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import msgspec
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from msgspec import Struct

from app.runtime.addresses import HostPort
from app.runtime.tls import words
from app.runtime.version import VERSION
from app.sinks.port import SinkUnavailable
from app.sinks.pushing.answer import LATER, BatchRefused, BatchTaken, FailedOver, ReceiverAnswer, said

REFUSED = frozenset({400, 409, 413, 422})
FAILED = 500  # the status of web frameworks when a handler raised
ANSWER_BYTES = 4 << 20  # of an answer that lists rejected readings; further bytes are not read
LONGEST_WAIT = 3600.0  # seconds; the cap on Retry-After
CURES: Mapping[int, str] = {
    401: "look at IOT_FEED_TOKEN and IOT_FEED_TOKEN_HEADER",
    403: "look at IOT_FEED_TOKEN and IOT_FEED_TOKEN_HEADER",
    404: "look at IOT_FEED_URL",
    405: "look at IOT_FEED_URL: the address takes no POST",
    406: "the receiver does not take application/json",
    410: "look at IOT_FEED_URL",
    415: "the receiver does not take application/json, or no gzip: look at IOT_FEED_GZIP",
}


class _RejectedReading(Struct):
    index: int
    reason: str = ""
    error: str = ""


class _ReceiverSaid(Struct):
    rejected: list[_RejectedReading] = []


_read_answer = msgspec.json.Decoder(_ReceiverSaid).decode


class FeedTarget(NamedTuple):
    """An endpoint and how requests are sent to it."""

    url: str
    headers: Mapping[str, str]  # of every request
    seconds: float  # longest a request may take, its connection and answer included
    requests: int  # at a time
    tls: ssl.SSLContext | None  # None: the system's CAs


class FeedClient:
    """Posts to one URL, which no message and no error of this class repeats."""

    def __init__(self, target: FeedTarget) -> None:
        """Nothing is connected yet."""
        self._target = target
        self._session: ClientSession | None = None

    async def reach(self) -> None:
        """Return when the endpoint answers HEAD with any status but 401 and 403. Raises SinkUnavailable."""
        target = self._target
        try:
            async with self._opened().head(target.url, headers=target.headers, allow_redirects=False) as answer:
                status = answer.status
        except (ClientError, OSError, TimeoutError) as error:
            raise _silent(error) from None  # the error contains the URL
        if status in (401, 403):
            raise SinkUnavailable(f"the receiver answers {status}", cure=CURES[status])

    async def post(self, name: str, body: bytes, count: int) -> ReceiverAnswer:
        """The receiver's answer to a body of `count` readings; `name` is the Idempotency-Key, which a repeat has too.

        Raises SinkUnavailable.
        """
        target = self._target
        headers = {**target.headers, "Idempotency-Key": name}
        try:
            async with self._opened().post(target.url, data=body, headers=headers, allow_redirects=False) as answer:
                return await _understood(answer, count)
        except (ClientError, OSError, TimeoutError) as error:
            raise _silent(error) from None  # the error contains the URL

    async def close(self) -> None:
        """Drop the connections; safe before the first request, and twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> ClientSession:
        if self._session is None:
            connector = TCPConnector(limit=self._target.requests, ssl=self._target.tls or True)
            own = {"User-Agent": f"iot-stream/{VERSION}", "Accept-Encoding": "identity"}  # no compressed answers
            self._session = ClientSession(
                connector=connector,
                timeout=ClientTimeout(total=self._target.seconds),
                headers=own,
                auto_decompress=False,
                cookie_jar=DummyCookieJar(),
            )
        return self._session


async def _understood(answer: ClientResponse, count: int) -> ReceiverAnswer:
    """Raises SinkUnavailable, ClientError, TimeoutError."""
    status = answer.status
    if 200 <= status < 300:
        body = await _start_of(answer, ANSWER_BYTES)  # read to the end: else the connection could not be reused
        return rejected_of(body, count) if answer.content_type.endswith("json") else BatchTaken()
    shown = said((await _start_of(answer, 800)).decode("utf-8", "replace"))
    why = f"the receiver answers {status}: {shown}" if shown else f"the receiver answers {status}"
    if status in REFUSED:
        return BatchRefused(why)
    if status == FAILED:
        return FailedOver(why)
    if 300 <= status < 400:
        raise SinkUnavailable(
            why, cure="redirections are not followed: set IOT_FEED_URL to the target of the redirection"
        )
    raise SinkUnavailable(why, cure=CURES.get(status, ""), retry_after=retry_after(answer.headers.get("Retry-After")))


def rejected_of(body: bytes, count: int) -> BatchTaken:
    """The readings, of `count`, that the body of a 2xx answer rejects; any other body rejects none. Never raises."""
    try:
        found = _read_answer(body).rejected
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return BatchTaken()
    named = {one.index: one for one in found if 0 <= one.index < count}
    return BatchTaken(
        {
            place: said(f"the receiver rejects it: {one.reason}: {one.error}")
            for place, one in named.items()
            if one.reason != LATER
        },
        [place for place, one in named.items() if one.reason == LATER],
    )


async def _start_of(answer: ClientResponse, most: int) -> bytes:
    """The first `most` bytes of the body."""
    found = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        found += chunk
        if len(found) >= most:
            answer.close()  # drops the rest
            break
    return bytes(found[:most])


def retry_after(header: str | None) -> float:
    """Seconds of a header Retry-After, a number or a date; 0 for a date in the past and for any other text.

    At most LONGEST_WAIT.
    """
    if not header:
        return 0.0
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST_WAIT, float(text[:9]))
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
    return min(LONGEST_WAIT, max(0.0, moment - time.time()))


def _silent(error: BaseException) -> SinkUnavailable:
    """The failure, without the URL, which may contain a token and which some errors repeat."""
    if isinstance(error, TimeoutError):
        why = "nothing in time"
    elif isinstance(error, ClientConnectorCertificateError):
        why = words(error.certificate_error, "the receiver", "IOT_FEED")
    elif isinstance(error, ClientConnectorSSLError):
        why = words(error.os_error, "the receiver", "IOT_FEED")
    elif isinstance(error, ClientConnectorError):
        why = f"{HostPort(error.host, error.port or 0)}: {words(error.os_error, '', '')}"
    elif not isinstance(error, ClientError):
        why = f"{type(error).__name__}: {error}"
    else:
        why = type(error).__name__
    return SinkUnavailable(f"the receiver does not answer: {why}")
