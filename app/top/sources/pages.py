"""/metrics and /ready of one address: in, its URL; out, a PageAnswer, whatever answers or does not."""

import asyncio
import os
import socket
import time

import msgspec
from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, DummyCookieJar

from app.top.model.answers import PageAnswer
from app.top.model.samples import PAGE_BYTES, parse

SECONDS = 3.0  # for an answer; a worker that is busy with a batch answers within 0.1 s
READY_BYTES = 1 << 16
# Compression is not asked for: what a page weighs is then what comes over the wire.
_HEADERS = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}


class ReadyBody(msgspec.Struct):
    """What is read of /ready."""

    checks: dict[str, bool] = {}


def session() -> ClientSession:
    """The client of all addresses of one `top`, whose answers may take SECONDS; the caller closes it."""
    return ClientSession(
        timeout=ClientTimeout(total=SECONDS), headers=_HEADERS, cookie_jar=DummyCookieJar(), auto_decompress=False
    )


async def ask(client: ClientSession, url: str) -> PageAnswer:
    """Look at one address once; `url` is without /metrics at its end. `problem` says why where there is no page. Never
    raises for an outage.
    """
    try:
        (status, body), (ready, missing) = await asyncio.gather(
            _get(client, f"{url}/metrics", PAGE_BYTES), _ready(client, url)
        )
        if status != 200:
            return PageAnswer(url, time.monotonic(), problem=f"/metrics answers {status}")
        samples = await asyncio.to_thread(parse, body)
    except (ClientError, OSError, ValueError) as error:
        return PageAnswer(url, time.monotonic(), problem=_words(error))
    return PageAnswer(url, time.monotonic(), samples, ready=ready, missing=missing)


async def _ready(client: ClientSession, url: str) -> tuple[bool | None, tuple[str, ...]]:
    try:
        status, body = await _get(client, f"{url}/ready", READY_BYTES)
        checks = msgspec.json.decode(body, type=ReadyBody).checks if status in (200, 503) else {}
    except (ClientError, OSError, ValueError):  # msgspec's errors are ValueErrors
        return None, ()
    ready = {200: True, 503: False}.get(status)
    return ready, tuple(name for name, well in checks.items() if not well)


async def _get(client: ClientSession, url: str, most: int) -> tuple[int, bytes]:
    """Status and body. Raises ValueError for a body of more than `most` bytes."""
    async with client.get(url, allow_redirects=False) as answer:
        body = bytearray()
        async for part in answer.content.iter_chunked(1 << 16):
            body += part
            if len(body) > most:
                raise ValueError(f"the answer has more than {most >> 10} KiB")
        return answer.status, bytes(body)


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    if isinstance(error, ClientConnectorError):
        return _of_system(error.os_error)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, ClientError):
        return f"no HTTP: {type(error).__name__}"
    return str(error)


def _of_system(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return error.strerror or "unknown host"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or type(error).__name__
