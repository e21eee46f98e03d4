"""TLS and client certificates: who is let in by one, as whom, and that a handshake alone costs no other client."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
import trustme
from structlog.testing import capture_logs

from app.errors import PermanentError
from app.gateways.http.server import HttpGateway
from app.settings import Settings
from tests.unit.gateways.http.gateway import GOOD, JSON, TELEMETRY, FakeAccounts, Serving, serving
from tests.waiting import until

TYPE = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's certificate, and certificates of clients: right, foreign, expired, of a device."""
    path = tmp_path_factory.mktemp("tls")
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(path / "ca.pem")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = {
        "server": ca.issue_cert("127.0.0.1"),
        "alice": ca.issue_cert("alice.example", common_name="alice"),
        "bob": ca.issue_cert("bob.example", common_name="bob"),
        "foreign": other.issue_cert("alice.example", common_name="alice"),
        "expired": ca.issue_cert("alice.example", common_name="alice", not_after=past),
    }
    for name, leaf in made.items():
        leaf.private_key_and_cert_chain_pem.write_to_path(path / f"{name}.pem")
    return path


def of(files: Path, name: str | None) -> ssl.SSLContext:
    """A client's context, with this certificate."""
    context = ssl.create_default_context(cafile=str(files / "ca.pem"))
    if name:
        context.load_cert_chain(files / f"{name}.pem")
    return context


async def send(
    here: Serving, context: ssl.SSLContext, headers: Mapping[str, str] | None = None, path: str = TELEMETRY
) -> int | None:
    """The status of one message; None: there was no connection to be had."""
    url = here.url.replace("http:", "https:")
    try:
        async with (
            aiohttp.ClientSession() as client,
            client.post(url + path, data=GOOD, headers={**TYPE, **(headers or {})}, ssl=context) as answer,
        ):
            return answer.status
    except (aiohttp.ClientError, ConnectionError):
        return None


async def test_with_tls_tokens_go_encrypted(files: Path) -> None:
    async with serving(http_certificate_file=files / "server.pem") as here:
        assert await send(here, of(files, None), JSON) == 200
        assert await send(here, of(files, None)) == 401
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            await here.ask(TELEMETRY, GOOD, JSON)
            pytest.fail("a request without TLS was answered")


async def test_a_client_certificate_is_an_account(files: Path) -> None:
    async with serving(http_certificate_file=files / "server.pem", http_ca_file=files / "ca.pem") as here:
        assert await send(here, of(files, "alice")) == 200
        assert here.accounts.seen[-1] == ("alice", "", "127.0.0.1")
        assert await send(here, of(files, "alice"), {"X-Device-Id": "d1"}) == 200
        assert here.accounts.seen[-1] == ("alice", "d1", "127.0.0.1")
        assert await send(here, of(files, "alice"), {"X-Device-Id": "d2"}) == 403
        assert await send(here, of(files, "bob")) == 401
        assert await send(here, of(files, None)) == 401
        assert await send(here, of(files, None), JSON) == 200, "who shows none may log in otherwise"
        assert await send(here, of(files, "alice"), {"Authorization": "Bearer wrong"}) == 401
        for name in ("foreign", "expired"):
            assert await send(here, of(files, name)) is None, name
            assert await send(here, of(files, name), JSON) is None, name


async def test_handshakes_that_never_end_hold_up_nobody(files: Path) -> None:
    async with serving(
        http_certificate_file=files / "server.pem", gateway_connections=6, gateway_header_seconds=0.5
    ) as here:
        silent = [await asyncio.open_connection("127.0.0.1", here.gateway.port) for _ in range(3)]
        await asyncio.sleep(1.0)
        assert [await asyncio.wait_for(reader.read(), 5.0) for reader, _ in silent] == [b""] * 3
        assert await send(here, of(files, None), JSON) == 200
        for _, writer in silent:
            writer.close()


async def test_a_renewed_certificate_is_shown_without_a_restart(files: Path, tmp_path: Path) -> None:
    used, renewed = tmp_path / "used.pem", trustme.CA()
    used.write_bytes((files / "server.pem").read_bytes())
    async with serving(http_certificate_file=used) as here:
        assert await send(here, of(files, None), JSON) == 200
        renewed.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(used)
        with capture_logs() as log:
            await until(lambda: "certificate_renewed" in [line["event"] for line in log])
            assert await send(here, of(files, None), JSON) is None
            context = ssl.create_default_context(cadata=renewed.cert_pem.bytes().decode())
            assert await send(here, context, JSON) == 200
            used.write_text("half of a file")
            await until(lambda: "certificate_not_renewed" in [line["event"] for line in log])
        assert await send(here, context, JSON) == 200, "a certificate that cannot be used changes nothing"


async def test_a_certificate_that_cannot_be_used_is_named(files: Path) -> None:
    async with serving() as here:
        settings = Settings(
            _env_file=None, http_port=0, http_certificate_file=files / "server.pem", http_ca_file=files / "ca.pem"
        ).model_copy(update={"http_certificate_file": files / "ca.pem"})
        with pytest.raises(PermanentError, match=r"ca\.pem"):
            await HttpGateway(settings, here.intake, FakeAccounts()).start()
