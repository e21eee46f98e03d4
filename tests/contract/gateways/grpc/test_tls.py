"""TCP with TLS: whose certificate is taken and whose is not, who it then is, and a certificate that is renewed."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from app.errors import MachineError
from app.local.servers.common import free_port
from tests.contract.gateways.grpc.certificates import GrpcCertificates, Pair
from tests.contract.gateways.grpc.world import TOKEN, World, push, unary, world

PUSH = "/iot_stream.ingest.v1.Ingest/PushMetrics"
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture
def made(tmp_path: Path) -> GrpcCertificates:
    return GrpcCertificates(tmp_path)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def it(made: GrpcCertificates, port: int, tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "s.sock", made.settings(port)) as found:
        yield found


async def called(
    made: GrpcCertificates, port: int, pair: Pair | None, metadata: tuple[tuple[str, str], ...] = (), path: str = PUSH
) -> bytes:
    """A call on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(f"127.0.0.1:{port}", made.credentials(pair), options=options) as channel:
        request = push(1, [1]).SerializeToString() if path == PUSH else b""
        return await unary(channel, path)(request, metadata=metadata, timeout=10)


async def test_a_certificate_is_its_account_and_a_uri_in_it_the_device(
    it: World, made: GrpcCertificates, port: int
) -> None:
    await called(made, port, made.client("alice"))
    await called(made, port, made.client("alice", device="s1"))
    assert [asked[1:] for asked in it.accounts.asked] == [
        ("alice", None, "127.0.0.1"),
        ("alice", "s1", "127.0.0.1"),
    ]
    assert len(it.written) == 2


async def test_a_certificate_bound_to_a_device_speaks_for_no_other(
    it: World, made: GrpcCertificates, port: int
) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await called(made, port, made.client("alice", device="another"))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(aio.AioRpcError) as caught:
        await called(made, port, made.client("alice", device="another"), (("device-id", "s1"),))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await called(made, port, made.client("alice"), (("device-id", "s1"),))
    assert it.accounts.asked[-1] == ("certificate", "alice", "s1", "127.0.0.1")
    with pytest.raises(aio.AioRpcError):
        await called(made, port, made.client("alice"), (("device-id", "another"),))
    assert len(it.written) == 1


async def test_a_token_decides_where_there_is_one(it: World, made: GrpcCertificates, port: int) -> None:
    await called(made, port, made.client("collector"), TOKEN)
    assert it.accounts.asked == [("token", "good", "127.0.0.1")]


@pytest.mark.parametrize("name", ["nobody", "", "ali\u200bce"])
async def test_a_good_certificate_of_no_account_is_not_let_in(
    it: World, made: GrpcCertificates, port: int, name: str
) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await called(made, port, made.client(name))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert it.written == []


@pytest.mark.parametrize("wrong", ["none", "other CA", "expired"])
async def test_a_connection_without_a_good_certificate_is_not_made(
    it: World, made: GrpcCertificates, port: int, wrong: str
) -> None:
    pair = {
        "none": None,
        "other CA": made.client("alice", other_ca=True),
        "expired": made.client("alice", days=-1),
    }[wrong]
    for path in (PUSH, HEALTH):
        with pytest.raises(aio.AioRpcError) as caught:
            await called(made, port, pair, TOKEN, path)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert it.accounts.asked == []
    await called(made, port, made.client("alice"))
    assert len(it.written) == 1, "the gateway goes on for other callers"


async def test_who_speaks_no_tls_is_not_heard(it: World, port: int) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await unary(channel, PUSH)(push(1, [1]).SerializeToString(), metadata=TOKEN, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert it.accounts.asked == []


async def test_without_a_ca_of_clients_a_token_says_who_it_is(
    made: GrpcCertificates, port: int, tmp_path: Path
) -> None:
    settings = {**made.settings(port), "grpc_ca_file": None}
    async with world(tmp_path / "s.sock", settings) as it:
        await called(made, port, None, TOKEN)
        with pytest.raises(aio.AioRpcError) as caught:
            await called(made, port, None)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(it.written) == 1


async def test_a_renewed_certificate_is_shown_to_new_connections_and_an_unusable_one_never(
    it: World, made: GrpcCertificates, port: int
) -> None:
    pair = made.client("alice")
    shown = await shown_at(port)
    made.renew()
    await called(made, port, pair)
    renewed = await shown_at(port)
    assert renewed != shown
    made.certificate.write_text("no certificate")
    await called(made, port, pair)
    assert await shown_at(port) == renewed
    made.renew()
    await called(made, port, pair)
    assert await shown_at(port) not in (shown, renewed)
    assert len(it.written) == 3


async def shown_at(port: int) -> str:
    """The certificate that the gateway shows; the handshake then ends without ours."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))


async def test_a_port_that_is_taken_is_said_in_words_and_nothing_is_left(
    it: World, made: GrpcCertificates, port: int, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=f"127.0.0.1:{port}.*IOT_GRPC_PORT"):
        async with world(tmp_path / "other.sock", made.settings(port)):
            pass
    assert [name for name in os.listdir(tmp_path) if name.startswith("other")] == []
    await called(made, port, made.client("alice"))
