"""Channels over TLS: who the gateway is, and who calls, is verified on both sides."""

from pathlib import Path

import grpc
import pytest
import trustme

from app.client import ClientCredentials, Event, GatewayRefusedError, IngestClient, NotAckedError, Pace
from app.errors import PermanentError
from app.runtime.rpc.channel import open_channel
from tests.contract.client.scripted_gateway import ScriptedGateway

ITEM = [Event(user_id="u", device_id="d", sequence_id=1, time_us=1)]
IMPATIENT = Pace(give_up=1, first_pause=0.05, longest_pause=0.2)


class Files:
    """A CA, and what it has signed."""

    def __init__(self, directory: Path) -> None:
        self.authority, self._directory = trustme.CA(), directory
        directory.mkdir()
        self.ca = self._file("ca.pem", self.authority.cert_pem)

    def _file(self, name: str, *blobs: trustme.Blob) -> Path:
        path = self._directory / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return path

    def server(self, name: str = "localhost") -> grpc.ServerCredentials:
        """That asks for certificates of this CA."""
        made = self.authority.issue_cert(name)
        pair = made.private_key_pem.bytes(), b"".join(blob.bytes() for blob in made.cert_chain_pems)
        return grpc.ssl_server_credentials([pair], self.ca.read_bytes(), require_client_auth=True)

    def client(self) -> tuple[Path, Path]:
        """Certificate and key."""
        made = self.authority.issue_cert("u")
        return self._file("client.pem", *made.cert_chain_pems), self._file("client.key", made.private_key_pem)


@pytest.fixture
def ours(tmp_path: Path) -> Files:
    return Files(tmp_path / "ours")


def push(gateway: ScriptedGateway, credentials: ClientCredentials, host: str = "localhost") -> int:
    with IngestClient(f"{host}:{gateway.port}", credentials, IMPATIENT) as client:
        return client.push(ITEM).accepted


def restarted(gateway: ScriptedGateway, credentials: grpc.ServerCredentials) -> ScriptedGateway:
    gateway.stop()
    gateway.start(credentials)
    return gateway


def test_both_sides_show_a_certificate(gateway: ScriptedGateway, ours: Files) -> None:
    certificate, key = ours.client()
    both = certificate.with_name("both.pem")
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    restarted(gateway, ours.server())
    assert push(gateway, ClientCredentials(ca_file=ours.ca, certificate_file=certificate, key_file=key)) == 1
    assert push(gateway, ClientCredentials(ca_file=ours.ca, certificate_file=both, token="t")) == 1
    assert gateway.metadata[-1]["authorization"] == "Bearer t"


def test_a_gateway_of_another_ca_is_not_spoken_to(gateway: ScriptedGateway, ours: Files, tmp_path: Path) -> None:
    theirs = Files(tmp_path / "theirs")
    certificate, key = theirs.client()
    restarted(gateway, ours.server())
    with pytest.raises(GatewayRefusedError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        push(gateway, ClientCredentials(ca_file=theirs.ca, certificate_file=certificate, key_file=key))
    assert caught.value.items == ITEM
    assert gateway.taken == []


def test_a_gateway_of_another_name_is_not_spoken_to(gateway: ScriptedGateway, ours: Files) -> None:
    certificate, key = ours.client()
    restarted(gateway, ours.server("gateway.example"))
    files = ClientCredentials(ca_file=ours.ca, certificate_file=certificate, key_file=key)
    with pytest.raises(GatewayRefusedError, match="Hostname Verification Check failed"):
        push(gateway, files)
    named = ClientCredentials(
        ca_file=ours.ca, certificate_file=certificate, key_file=key, server_name="gateway.example"
    )
    assert push(gateway, named) == 1


def test_without_a_certificate_nobody_is_served(gateway: ScriptedGateway, ours: Files, tmp_path: Path) -> None:
    foreign, key = Files(tmp_path / "theirs").client()
    restarted(gateway, ours.server())
    for credentials in (
        ClientCredentials(ca_file=ours.ca),
        ClientCredentials(ca_file=ours.ca, certificate_file=foreign, key_file=key),
    ):
        with pytest.raises(NotAckedError, match=r"Socket closed .*a certificate has expired, .* or is missing"):
            push(gateway, credentials)
    assert gateway.taken == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("gateway", "it names no port"),
        ("http://gateway:50051", "is no gateway"),
        ("gateway:port", "a port is a number"),
        ("::1:5000", "brackets"),
        ("", "is no gateway"),
    ],
)
async def test_a_target_that_is_none_is_named(target: str, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        open_channel(target, ClientCredentials())


async def test_a_token_does_not_cross_a_network_in_the_clear() -> None:
    with pytest.raises(PermanentError, match="could read the token: give the CA file"):
        open_channel("gateway.example:5000", ClientCredentials(token="t-1"))
    for target, credentials in (
        ("localhost:5000", ClientCredentials(token="t-1")),
        ("[::1]:5000", ClientCredentials(token="t-1")),
        ("unix:///tmp/none.sock", ClientCredentials(token="t-1")),
        ("gateway.example:5000", ClientCredentials()),
        ("gateway.example:5000", ClientCredentials(token="t-1", tls=True)),
    ):
        await open_channel(target, credentials).close()


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    none = tmp_path / "none.pem"
    for credentials in (
        ClientCredentials(ca_file=none),
        ClientCredentials(certificate_file=none),
        ClientCredentials(token_file=none, tls=False),
    ):
        with pytest.raises(PermanentError, match=f"cannot read {none}: No such file"):
            open_channel("gateway.example:5000", credentials)


def test_a_token_is_shown_nowhere() -> None:
    assert "t-1" not in f"{ClientCredentials(token='t-1')!r} {ClientCredentials(token='t-1')}"
