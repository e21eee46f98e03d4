"""With TLS a client certificate says who sends; none, a foreign or an expired one lets nobody in."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.ports import Refusal
from tests.contract.gateways.tcp.serving import LOGIN, ServedTcp, event, served
from tests.contract.gateways.tcp.test_lines import counted
from tests.contract.gateways.tcp.test_pressure import connections
from tests.quic_rig import SERVER, Authority, Pair
from tests.waiting import until


class Certificates:
    """Of a server and of the CA that its clients' come from."""

    def __init__(self, folder: Path) -> None:
        self.servers, self.clients = Authority(folder, "servers"), Authority(folder, "clients")
        self.others = Authority(folder, "others")
        self.server = self.servers.issue("gateway", usage=SERVER, hosts=["localhost"])

    def context(self, issued: Pair | None = None) -> ssl.SSLContext:
        """What a client has that trusts the server, and shows this certificate."""
        made = ssl.create_default_context(cafile=str(self.servers.file))
        if issued:
            made.load_cert_chain(issued.certificate, issued.key)
        return made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def encrypted(certificates: Certificates, mutual: bool = True, **more: Any) -> AsyncIterator[ServedTcp]:
    """A gateway with TLS; `mutual`: it asks for certificates."""
    more |= {"tcp_certificate_file": certificates.server.certificate, "tcp_key_file": certificates.server.key}
    if mutual:
        more["tcp_ca_file"] = certificates.clients.file
    async with served(**more) as tcp:
        yield tcp


async def test_a_certificate_is_who_sends(certificates: Certificates) -> None:
    async with encrypted(certificates) as tcp:
        client = await tcp.connect(certificates.context(certificates.clients.issue("alice")))
        client.send(event(1), event(2) * 10_000)
        await client.until_acked(10_001)
        assert tcp.accounts.seen == [("alice", None, "127.0.0.1")]
        assert len(tcp.writer.records) == 10_001


async def test_a_certificate_of_one_device(certificates: Certificates) -> None:
    async with encrypted(certificates) as tcp:
        issued = certificates.clients.issue("alice", device="d/1 ü")
        client = await tcp.connect(certificates.context(issued))
        client.send(event(1))
        assert (await client.said())["reason"] == "not_allowed"
        assert tcp.accounts.seen == [("alice", "d/1 ü", "127.0.0.1")]


@pytest.mark.parametrize("mutual", [False, True])
async def test_a_login_over_tls(certificates: Certificates, mutual: bool) -> None:
    """Also where certificates are asked for: who shows none logs in."""
    async with encrypted(certificates, mutual) as tcp:
        client = await tcp.connect(certificates.context())
        client.send(LOGIN, event(1))
        assert await client.said() == {"ok": True}
        assert await client.said() == {"acked": 1}


@pytest.mark.parametrize("kind", ["foreign", "ended", "of the server's own CA", "not for clients"])
async def test_other_certificates_let_nobody_in(certificates: Certificates, kind: str) -> None:
    issued = {
        "foreign": lambda: certificates.others.issue("alice"),
        "ended": lambda: certificates.clients.issue("alice", days=(-5.0, -1.0)),
        "of the server's own CA": lambda: certificates.servers.issue("alice"),
        "not for clients": lambda: certificates.clients.issue("alice", usage=SERVER),
    }[kind]()
    before = counted("bad_certificate")
    async with encrypted(certificates) as tcp:
        assert await heard(tcp, certificates.context(issued)) == b""
        await until(lambda: counted("bad_certificate") == before + 1)
        assert tcp.accounts.seen == []
        assert tcp.writer.records == []


async def heard(tcp: ServedTcp, context: ssl.SSLContext) -> bytes:
    """What is said to a sender. In TLS 1.3 it has shaken hands before its certificate is looked at."""
    try:
        client = await tcp.connect(context)
        client.send(event(1))
        return await client.reader.read()
    except (ssl.SSLError, ConnectionError):
        return b""


async def test_a_connection_does_not_outlive_its_certificate(certificates: Certificates) -> None:
    async with encrypted(certificates, auth_cache_seconds=0.1) as tcp:
        issued = certificates.clients.issue("alice", days=(-1.0, 5 / 86400))
        client = await tcp.connect(certificates.context(issued))
        client.send(event(1))
        assert await client.said() == {"acked": 1}
        assert (await client.said(10))["reason"] == "bad_credentials"


async def test_whoever_shows_no_certificate_has_to_log_in(certificates: Certificates) -> None:
    async with encrypted(certificates) as tcp:
        client = await tcp.connect(certificates.context())
        client.send(event(1))
        assert (await client.said())["reason"] == "login_expected"
        assert tcp.writer.records == []


async def test_a_renewed_certificate_is_shown_without_a_restart(certificates: Certificates, tmp_path: Path) -> None:
    shown = [certificates.servers.issue("gateway", usage=SERVER, hosts=["localhost"]) for _ in range(2)]
    file, key = tmp_path / "tls.pem", tmp_path / "tls.key"

    def put(pair: Pair) -> None:
        key.write_bytes(pair.key.read_bytes())
        file.write_bytes(pair.certificate.read_bytes())

    async def seen(tcp: ServedTcp) -> bytes:
        client = await tcp.connect(certificates.context())
        tls: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
        return tls.getpeercert(True) or b""

    put(shown[0])
    async with served(tcp_certificate_file=file, tcp_key_file=key) as tcp:
        first = await seen(tcp)
        put(shown[1])
        async with asyncio.timeout(10):
            while await seen(tcp) == first:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.1)


async def test_plain_text_where_tls_is_spoken(certificates: Certificates) -> None:
    before = counted("bad_handshake")
    async with encrypted(certificates) as tcp:
        client = await tcp.connect()
        client.send(LOGIN, event(1))
        assert b'"ok"' not in await client.reader.read()
        await until(lambda: counted("bad_handshake") == before + 1)
        assert tcp.writer.records == []


async def test_a_handshake_that_never_ends(certificates: Certificates) -> None:
    before = counted("bad_handshake")
    async with encrypted(certificates, gateway_header_seconds=0.3) as tcp:
        await tcp.connect()
        await until(lambda: counted("bad_handshake") == before + 1)


async def test_a_stop_over_tls_answers_what_is_in_flight(certificates: Certificates) -> None:
    async with encrypted(certificates, mutual=False) as tcp:
        client = await tcp.connect(certificates.context())
        client.send(LOGIN, event(1))
        assert await client.said() == {"ok": True}
        assert await client.said() == {"acked": 1}
        tcp.writer.there.clear()
        client.send(event(2))
        await until(lambda: tcp.intake.queue_depth == 1)
        stopping = asyncio.create_task(tcp.gateway.stop(10.0))
        await asyncio.sleep(0.05)
        tcp.writer.there.set()
        assert await client.said() == {"acked": 2}
        assert (await client.said())["reason"] == "stopping"
        client.writer.close()
        await stopping


async def test_whoever_ends_over_tls_has_what_he_sent_in_kafka(certificates: Certificates) -> None:
    """TLS has no half of a connection: there are no acks any more, but nothing that came is forgotten."""
    async with encrypted(certificates, mutual=False) as tcp:
        client = await tcp.connect(certificates.context())
        client.send(LOGIN)
        assert await client.said() == {"ok": True}
        client.send(*[event(number) for number in range(5000)])
        client.writer.close()
        await until(lambda: len(tcp.writer.records) == 5000)


async def test_whoever_ends_over_tls_before_his_account_is_known_has_what_he_sent_in_kafka(
    certificates: Certificates,
) -> None:
    """As Telegraf does it: it shows a certificate, reads nothing, and is gone after its lines."""
    before = counted("bad_json")
    async with encrypted(certificates) as tcp:
        tcp.accounts.may_answer.clear()
        client = await tcp.connect(certificates.context(certificates.clients.issue("alice")))
        client.send(*[event(number) for number in range(1500)])
        await client.writer.drain()
        client.writer.close()
        await client.writer.wait_closed()
        await asyncio.sleep(0.1)
        tcp.accounts.may_answer.set()
        await until(lambda: len(tcp.writer.records) == 1500)
        assert counted("bad_json") == before


async def test_whoever_ends_over_tls_without_an_account_leaves_nothing_behind(certificates: Certificates) -> None:
    async with encrypted(certificates) as tcp:
        tcp.accounts.may_answer.clear()
        tcp.accounts.answer = Refusal.BAD_CREDENTIALS
        client = await tcp.connect(certificates.context(certificates.clients.issue("alice")))
        client.send(event(1))
        await client.writer.drain()
        client.writer.close()
        await asyncio.sleep(0.1)
        assert connections() == 1
        tcp.accounts.may_answer.set()
        await until(lambda: connections() == 0)
        assert tcp.writer.records == []
