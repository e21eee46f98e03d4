"""Files of a sender: files that fit make a configuration, and a file that does not is named before anything is sent."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from app.client.quic.credentials import client_configuration
from app.errors import SettingsError
from tests.quic_rig import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("n1")


def test_files_that_fit_are_shown_and_trusted(authority: Authority, pair: Pair) -> None:
    made = client_configuration(authority.file, pair.certificate, pair.key, "gateway.example")
    assert (made.is_client, made.server_name, made.cafile) == (True, "gateway.example", str(authority.file))
    assert made.alpn_protocols == ["iot-stream/1"]
    assert made.idle_timeout == 300.0
    assert made.certificate.subject.rfc4514_string() == "CN=n1"


def test_a_certificate_its_chain_and_its_key_may_be_in_one_file(authority: Authority, pair: Pair) -> None:
    one = pair.certificate.with_name("all.pem")
    one.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes() + authority.file.read_bytes())
    made = client_configuration(authority.file, one, None, "localhost")
    assert made.certificate.subject.rfc4514_string() == "CN=n1"
    assert len(made.certificate_chain) == 1


def test_a_key_of_another_certificate_is_named(authority: Authority, pair: Pair) -> None:
    """The gateway would say no more than that the proof of the key is wrong."""
    other = authority.issue("n2")
    with pytest.raises(SettingsError, match=f"{other.key} is not that of {pair.certificate}"):
        client_configuration(authority.file, pair.certificate, other.key, "localhost")


@pytest.mark.parametrize("wrong", ["ca", "certificate", "key"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_none_of_these_is_named(
    authority: Authority, pair: Pair, wrong: str, content: bytes | None
) -> None:
    file = {"ca": authority.file, "certificate": pair.certificate, "key": pair.key}[wrong]
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=str(file)):
        client_configuration(authority.file, pair.certificate, pair.key, "localhost")


def test_a_key_that_wants_a_password_is_named_and_not_asked_for(authority: Authority, pair: Pair) -> None:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush"))
    pair.key.write_bytes(locked)
    with pytest.raises(SettingsError, match=str(pair.key)):
        client_configuration(authority.file, pair.certificate, pair.key, "localhost")
