"""The certificates of the local stack: a server and a client trust each other by them, and by no other certificates."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from app.local.ingest.certificates import RENEW, LocalCertificates
from app.runtime import tls


def made(directory: Path, account: str = "operator") -> LocalCertificates:
    files = LocalCertificates(directory)
    files.make(account)
    return files


def server_side(files: LocalCertificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
    context.load_cert_chain(files.server, files.server_key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def who_came(server: LocalCertificates, client: LocalCertificates) -> str:
    """The name in the certificate that the server has verified, of a client that has verified the server's."""
    seen: list[dict[str, object]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert"))
        writer.write(b"!")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side(server))
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        context = tls.context(client.ca)
        context.load_cert_chain(client.client, client.client_key)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            assert await reader.read(1) == b"!", "by TLS 1.3 a client learns with its first read that it is refused"
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    subject = dict(pair[0] for pair in seen[0]["subject"])  # type: ignore[attr-defined]
    return str(subject["commonName"])


async def test_each_believes_the_other(tmp_path: Path) -> None:
    files = made(tmp_path)
    assert await who_came(files, files) == "operator"


async def test_those_of_another_stack_are_not_believed(tmp_path: Path) -> None:
    mine, other = made(tmp_path / "mine"), made(tmp_path / "other")
    with pytest.raises(ssl.SSLError):
        await who_came(other, mine)


def test_they_are_private_and_made_once(tmp_path: Path) -> None:
    files = made(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 5
    assert {path.stat().st_mode & 0o777 for path in before} == {0o600}
    files.make("operator")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    files.make("somebody-else")
    assert files.client.read_bytes() != before[files.client]


def test_what_ends_soon_or_is_not_whole_is_made_anew(tmp_path: Path) -> None:
    LocalCertificates(tmp_path, RENEW - timedelta(days=1)).make("operator")
    before = (tmp_path / "server.pem").read_bytes()
    files = made(tmp_path)
    assert files.server.read_bytes() != before
    files.client_key.unlink()
    files.make("operator")
    assert files.client_key.exists()
