"""One server that takes line protocol: a body in; out, None when it is taken, else why not, or SinkUnavailable."""

import asyncio
import ssl
import zlib
from base64 import b64encode
from io import BytesIO
from urllib.parse import unquote

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from yarl import URL

from app.runtime import tls
from app.settings.sinks.influx import InfluxSettings
from app.sinks.influx.answers import OF_THE_LINES, OF_THE_SETTINGS, cure, unavailable, words
from app.sinks.port import SinkMisconfigured, SinkUnavailable

WHOLE_MAX = 1 << 20  # bytes; aiohttp warns of larger bodies that are not sent in chunks
ANSWER_MAX = 4096  # bytes of an answer that are read
GZIP = 31  # the format, to zlib
NOTHING = b"# nothing\n"  # a comment: a write without lines
NO_POLICY = "retention policy not found"  # InfluxDB 1 answers this with a status that else means a failure of its own
NO_LINES = "requires points"  # the answer of InfluxDB 2 to a write without lines that is otherwise valid


class InfluxClient:
    """Posts bodies of lines, in microseconds, to the address of the settings."""

    def __init__(self, settings: InfluxSettings) -> None:
        """Raises SinkMisconfigured for settings that contradict each other. Connects to nothing."""
        if settings.influx_url is None:
            raise SinkMisconfigured("IOT_INFLUX_URL is not set: give the URL of the server, http://host:8086")
        url = URL(settings.influx_url.get_secret_value())
        self._settings, self._given = settings, url
        self._version, self._gzip = settings.influx_protocol, settings.influx_gzip
        try:
            _headers(settings, url)
        except (OSError, ValueError):
            raise SinkMisconfigured("the file of IOT_INFLUX_TOKEN_FILE or _PASSWORD_FILE cannot be read") from None
        self._url = _address(settings, url)
        self._where = str(URL.build(scheme=url.scheme, host=url.host or "", port=url.explicit_port))
        self._tls = _context(settings, url)
        self._timeout = ClientTimeout(total=settings.influx_timeout)
        self._session: ClientSession | None = None

    @property
    def where(self) -> str:
        """The server for log messages, without account and path."""
        return self._where

    async def check(self) -> None:
        """Return when the server would accept lines; nothing is written.

        Raises SinkUnavailable, and SinkMisconfigured when the server refuses account, bucket or address.
        """
        status, body, retry_after = await self._send(NOTHING)
        if status == 400 and NO_LINES not in words(body):  # a server without comments may take an empty body
            status, body, retry_after = await self._send(b"")
        if 200 <= status < 300 or (status == 400 and NO_LINES in words(body)):
            return
        said = f"{self._where} answers {status}: {words(body)}"
        if status in OF_THE_SETTINGS:
            raise SinkMisconfigured(f"{said}: {cure(status, words(body), self._version)}")
        if status in OF_THE_LINES or NO_POLICY in words(body):
            raise SinkMisconfigured(f"{said}: look at IOT_INFLUX_ORG, IOT_INFLUX_BUCKET and IOT_INFLUX_VERSION")
        raise unavailable(status, body, retry_after, self._version)

    async def post(self, body: bytes) -> str | None:
        """None: the server has taken all lines; else why the server has refused some or all.

        Raises SinkUnavailable, with a TimeoutError as its cause when no answer came in time.
        """
        if self._gzip:
            body = await asyncio.to_thread(_compressed, body)
        status, said, retry_after = await self._send(body)
        if 200 <= status < 300:
            return None
        if status in OF_THE_LINES:
            return words(said) or f"the server answers {status}"
        raise unavailable(status, said, retry_after, self._version)

    async def close(self) -> None:
        """Close the connections; safe before the first post."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(self, body: bytes) -> tuple[int, bytes, str]:
        """The status, the start of the answer, and its Retry-After ("": none)."""
        session = self._session = self._session or self._made()
        headers = {"Content-Encoding": "gzip"} if self._gzip and body[:2] == b"\x1f\x8b" else {}
        data = body if len(body) <= WHOLE_MAX else BytesIO(body)
        try:
            async with session.post(self._url, data=data, headers=headers, allow_redirects=False) as answer:
                status, retry_after = answer.status, answer.headers.get("Retry-After", "")
                said = await answer.content.read(ANSWER_MAX)
        except TimeoutError as error:
            raise SinkUnavailable(f"{self._where} does not answer within {self._timeout.total:g} s") from error
        except (ClientError, OSError) as error:  # its text may contain the URL
            raise SinkUnavailable(_words(error, self._where)) from None
        if status in (401, 403):
            await self.close()  # the next request reads the files of token and password again
        return status, said, retry_after

    def _made(self) -> ClientSession:
        connector = TCPConnector(limit=1, ssl=self._tls) if self._tls else TCPConnector(limit=1)
        try:
            headers = _headers(self._settings, self._given)
        except (OSError, ValueError):
            raise SinkUnavailable(
                "the file of IOT_INFLUX_TOKEN_FILE or IOT_INFLUX_PASSWORD_FILE cannot be read"
            ) from None
        return ClientSession(connector=connector, timeout=self._timeout, headers=headers)


def _headers(settings: InfluxSettings, url: URL) -> dict[str, str]:
    """The headers of each request, token or account included. Raises as `secret_files.read` does, and
    SinkMisconfigured.
    """
    headers = {"Content-Type": "text/plain; charset=utf-8", "Accept": "application/json"}
    secret, account = settings.influx_secret, _account(settings, url)
    if secret and account:
        raise SinkMisconfigured("IOT_INFLUX_TOKEN, and an account (IOT_INFLUX_USERNAME, or in the URL): give one")
    if account:
        return headers | {"Authorization": f"Basic {b64encode(account.encode()).decode()}"}
    if secret:
        if not secret.isascii() or not secret.isprintable():
            raise SinkMisconfigured("IOT_INFLUX_TOKEN: a token is of printable ASCII characters, without line breaks")
        headers["Authorization"] = f"{'Token' if settings.influx_protocol == 2 else 'Bearer'} {secret}"
    return headers


def _account(settings: InfluxSettings, url: URL) -> str:
    """The account and its password, from the settings, else from the URL; "" for none."""
    user, password = settings.influx_username, settings.influx_account_secret or ""
    if not user and url.raw_user:
        user, password = unquote(url.raw_user), password or unquote(url.raw_password or "")
    if ":" in user:
        raise SinkMisconfigured("IOT_INFLUX_USERNAME: no account has a colon in its name")
    if password and not user:
        raise SinkMisconfigured("IOT_INFLUX_PASSWORD is set, and IOT_INFLUX_USERNAME is not")
    return f"{user}:{password}" if user else ""


def _address(settings: InfluxSettings, url: URL) -> URL:
    if url.query_string or url.fragment:
        raise SinkMisconfigured("IOT_INFLUX_URL has parameters: there are settings for bucket, account and so on")
    bucket = settings.influx_bucket
    base = url.with_user(None)
    if settings.influx_protocol == 2:
        organisation = {"org": settings.influx_org} if settings.influx_org else {}
        return (base / "api/v2/write").with_query({"bucket": bucket, "precision": "us"} | organisation)
    database, _, policy = bucket.partition("/")
    return (base / "write").with_query({"db": database, "precision": "u"} | ({"rp": policy} if policy else {}))


def _context(settings: InfluxSettings, url: URL) -> ssl.SSLContext | None:
    """The context of https; None for http."""
    ca, certificate, key = settings.influx_ca_file, settings.influx_certificate_file, settings.influx_key_file
    if url.scheme.lower() == "https":
        try:
            return tls.context(ca, certificate, key)
        except ValueError as error:
            raise SinkMisconfigured(f"the files of IOT_INFLUX_CA_FILE, _CERTIFICATE_FILE, _KEY_FILE: {error}") from None
    for name, path in (("CA", ca), ("CERTIFICATE", certificate)):
        if path is not None:
            raise SinkMisconfigured(f"IOT_INFLUX_{name}_FILE: nothing is encrypted, IOT_INFLUX_URL begins with http:")
    return None


def _compressed(body: bytes) -> bytes:
    made = zlib.compressobj(1, zlib.DEFLATED, GZIP)
    return made.compress(body) + made.flush()


def _words(error: BaseException, where: str) -> str:
    """The failure, without the URL."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLError):
        return tls.words(cause, where, "IOT_INFLUX")
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(error).__name__
    return f"{where} cannot be reached: {said}"
