"""Tempo asked for spans: in, a trace id, or a device and its number; out, the spans. Its errors are translated."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Struct

from app.errors import IotStreamError, TransientError
from app.inspect.search import SoughtMessage
from app.inspect.spans import FoundSpan, spans_of
from app.runtime.tracing.semconv import DEVICE_ID, SEQUENCE_ID, USER_ID

TIMEOUT = 10.0  # seconds for an answer
LARGEST = 16 << 20  # bytes of an answer
TRACES = 5  # of a message whose trace id is not known, and as many that link to its trace
DAY = 86_400  # seconds before and after the message that a search takes in


class _Found(Struct, rename={"trace_id": "traceID"}):
    trace_id: str


class _SearchAnswer(Struct):
    traces: list[_Found] = []


class _MissingError(IotStreamError):
    """There is no such trace, or no such address in this version of Tempo."""


_decode = msgspec.json.Decoder(_SearchAnswer).decode
_NOTHING: Mapping[str, str] = {}


async def spans_of_message(url: str, sought: SoughtMessage, at_ms: int) -> list[FoundSpan]:
    """The spans of a message's trace, and of traces that link to it (a batch has one of its own); `url` is Tempo's.

    Where its trace id is not known, or Tempo has no span of it, the trace is searched by attributes, a day around
    `at_ms`, milliseconds since 1970. Raises TransientError where Tempo does not answer, or nothing that can be read.
    """
    async with ClientSession(timeout=ClientTimeout(total=TIMEOUT)) as session:
        tempo = _Tempo(session, url.rstrip("/"))
        by_id = [sought.trace_id] if sought.trace_id else []
        found = {one: await tempo.trace(one) for one in by_id}
        if not any(found.values()) and sought.sequence_id is not None:
            found |= {one: await tempo.trace(one) for one in await tempo.search(query(sought), at_ms)}
        for one in [name for name, spans in found.items() if spans]:
            links = await tempo.search(f'{{ link:traceID = "{one}" }}', at_ms, unknown=(400, 404))
            found |= {linked: await tempo.trace(linked) for linked in links if linked not in found}
    return [span for spans in found.values() for span in spans]


def query(sought: SoughtMessage) -> str:
    """TraceQL that finds a message's spans by its known attributes: user, device and sequence_id."""
    named = {USER_ID: sought.user_id, DEVICE_ID: sought.device_id, SEQUENCE_ID: sought.sequence_id}
    known = {name: json.dumps(value, ensure_ascii=False) for name, value in named.items() if value is not None}
    return f"{{ {' && '.join(f'.{name} = {value}' for name, value in known.items())} }}"


class _Tempo:
    def __init__(self, session: ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def trace(self, trace_id: str) -> list[FoundSpan]:
        """The spans of a trace; none where Tempo does not have the trace: not sampled, or not arrived yet."""
        for version in ("api/v2/traces", "api/traces"):
            try:
                return spans_of(await self._get(f"{version}/{quote(trace_id, safe='')}"))
            except _MissingError:
                continue
            except ValueError as error:
                raise TransientError(f"Tempo's answer cannot be read: {error}") from None
        return []

    async def search(self, traceql: str, at_ms: int, unknown: Sequence[int] = (404,)) -> list[str]:
        """Trace ids; none where Tempo answers a status of `unknown`: an older Tempo lacks some words of a query."""
        seconds = at_ms // 1000
        asked = {"q": traceql, "start": str(seconds - DAY), "end": str(seconds + DAY), "limit": str(TRACES)}
        try:
            answer = _decode(await self._get("api/search", asked, unknown))
        except _MissingError:
            return []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TransientError(f"Tempo's answer cannot be read: {error}") from None
        return [one.trace_id.lower().zfill(32) for one in answer.traces[:TRACES]]  # which leaves out leading zeros

    async def _get(self, path: str, asked: Mapping[str, str] = _NOTHING, missing: Sequence[int] = (404,)) -> bytes:
        found, url, headers = bytearray(), f"{self._url}/{path}", {"Accept": "application/json"}
        try:
            async with self._session.get(url, params=asked, headers=headers, allow_redirects=False) as answer:
                if answer.status in missing:
                    raise _MissingError
                if answer.status != 200:
                    raise TransientError(f"Tempo answers {answer.status} {answer.reason}")
                async for piece in answer.content.iter_any():
                    found += piece
                    if len(found) > LARGEST:
                        raise TransientError(f"Tempo's answer has more than {LARGEST >> 20} MiB")
        except (ClientError, OSError) as error:  # TimeoutError too
            host = urlsplit(self._url).hostname  # the URL may hold a password
            raise TransientError(f"Tempo at {host} does not answer: {_words(error)}") from None
        return bytes(found)


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {TIMEOUT:g} s"
    os_error = getattr(error, "os_error", None)
    return getattr(os_error or error, "strerror", None) or type(error).__name__
