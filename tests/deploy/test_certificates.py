"""The certificates of scripts/certificates: of the MQTT broker and where EMQX finds them, of gateways and accounts."""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from app.core.routing.certificate_names import bound_device
from app.runtime import tls
from tests.deploy import compose
from tools.documents import ROOT

SCRIPT = ROOT / "scripts" / "certificates"
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing: apt-get install openssl")


def make(directory: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "SECRETS": str(directory)}
    return subprocess.run([SCRIPT, *names], env=environment, capture_output=True, text=True, check=False)


async def handshake(directory: Path, name: str) -> str:
    """The TLS version a client that verifies agrees on with a server that has these files."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "mqtt_certificate", directory / "mqtt_key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = tls.context(directory / "mqtt_ca.pem")
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        version = str(writer.get_extra_info("ssl_object").version())
        writer.close()
        await writer.wait_closed()
    return version


async def test_the_certificate_is_for_its_names_alone(tmp_path: Path) -> None:
    made = make(tmp_path, "mqtt.example.com", "127.0.0.1", "::1")
    assert made.returncode == 0, made.stderr
    for name in ("mqtt.example.com", "127.0.0.1", "::1"):
        assert await handshake(tmp_path, name) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tmp_path, "other.example.com")


def test_they_are_made_once(tmp_path: Path) -> None:
    assert make(tmp_path).returncode == 2
    assert make(tmp_path, "a.example").returncode == 0
    before = (tmp_path / "mqtt_certificate").read_bytes()
    assert (tmp_path / "mqtt_ca.key").stat().st_mode & 0o077 == 0
    assert tmp_path.stat().st_mode & 0o077 == 0
    again = make(tmp_path, "b.example")
    assert (again.returncode, "remove mqtt_certificate and mqtt_key" in again.stderr) == (1, True)
    assert (tmp_path / "mqtt_certificate").read_bytes() == before


async def test_a_new_certificate_is_of_the_same_ca(tmp_path: Path) -> None:
    make(tmp_path, "a.example")
    authority = (tmp_path / "mqtt_ca.pem").read_bytes()
    for name in ("mqtt_certificate", "mqtt_key"):
        (tmp_path / name).unlink()
    assert make(tmp_path, "b.example").returncode == 0
    assert (tmp_path / "mqtt_ca.pem").read_bytes() == authority
    assert await handshake(tmp_path, "b.example") == "TLSv1.3"
    (tmp_path / "mqtt_ca.key").unlink()
    (tmp_path / "mqtt_certificate").unlink()
    assert (make(tmp_path, "c.example").returncode, (tmp_path / "mqtt_ca.pem").read_bytes()) == (1, authority)


def test_clients_have_the_names_of_their_account_and_device(tmp_path: Path) -> None:
    assert make(tmp_path, "gateway", "localhost").returncode == 0
    assert make(tmp_path, "client", "alice").returncode == 0
    assert make(tmp_path, "client", "alice", "Boiler 1/ä").returncode == 0
    clients = tmp_path / "clients"
    assert names(load(clients / "alice.pem")) == ("alice", None)
    assert names(load(clients / "alice" / "Boiler%201%2F%C3%A4.pem")) == ("alice", "Boiler 1/ä")
    assert all(file.stat().st_mode & 0o077 == 0 for file in clients.rglob("*.key"))
    again = make(tmp_path, "client", "alice")
    assert (again.returncode, "is there" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    "names", [(), ("",), ("a/b",), ("..", "x"), ("a\nb",), ("alice", ""), ("a", "b", "c"), ("x" * 65,)]
)
def test_a_client_that_no_certificate_can_name_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    made = make(tmp_path, "client", *names)
    assert (made.returncode, made.stderr.startswith("certificates: ")) == (2, True)
    assert not list(tmp_path.rglob("*.pem"))


def test_each_certificate_is_for_its_own_end_alone(tmp_path: Path) -> None:
    make(tmp_path, "gateway", "localhost")
    make(tmp_path, "client", "alice")
    for name, usage in (
        ("gateway_certificate", ExtendedKeyUsageOID.SERVER_AUTH),
        ("clients/alice.pem", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        assert list(load(tmp_path / name).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]


def load(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def names(certificate: x509.Certificate) -> tuple[str, str | None]:
    (common,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return str(common.value), None
    return str(common.value), bound_device(alternative.get_values_for_type(x509.UniformResourceIdentifier))


def test_emqx_finds_them() -> None:
    emqx = (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()
    listener = emqx.partition("listeners.ssl.default {")[2].partition("\n}")[0]
    added = compose.read(ROOT / "docker-compose.tls.yml")
    files = set(re.findall(r'file = "/run/secrets/(\w+)"', listener))
    assert files == set(added["secrets"]) == set(added["services"]["emqx"]["secrets"])
    assert all(added["secrets"][name]["file"].endswith(f"/{name}") for name in files)
    assert all(name in SCRIPT.read_text() for name in files)
    (port,) = re.findall(r'bind = "0\.0\.0\.0:(\d+)"', listener)
    assert added["services"]["emqx"]["ports"][0].endswith(f":{port}")
    assert "enable = false" in listener
    assert "enable_authn = true" in listener
    assert added["services"]["emqx"]["environment"] == {"EMQX_LISTENERS__SSL__DEFAULT__ENABLE": "true"}
