"""Settings of what listens: a certificate has its key, and clients are asked for theirs only where it is encrypted."""

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import load
from tests.secured import Certificates


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    monkeypatch.chdir(tmp_path)
    return Certificates(tmp_path)


@pytest.mark.parametrize("way", ["http", "tcp", "grpc", "quic"])
def test_certificates_of_a_listener(way: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = f"IOT_{way.upper()}"
    monkeypatch.setenv(f"{prefix}_CERTIFICATE_FILE", str(certificates.server))
    monkeypatch.setenv(f"{prefix}_KEY_FILE", str(certificates.server_key))
    monkeypatch.setenv(f"{prefix}_CA_FILE", str(certificates.ca))
    settings = load()
    assert getattr(settings, f"{way}_ca_file") == certificates.ca

    monkeypatch.setenv(f"{prefix}_KEY_FILE", str(certificates.client_key))
    with pytest.raises(SettingsError, match=f"{prefix}_KEY_FILE"):
        load()
    monkeypatch.delenv(f"{prefix}_KEY_FILE")
    with pytest.raises(SettingsError, match=f"{prefix}_KEY_FILE.*should hold the key"):
        load()
    monkeypatch.delenv(f"{prefix}_CERTIFICATE_FILE")
    with pytest.raises(SettingsError, match=f"{prefix}_CA_FILE: nothing is encrypted: set {prefix}_CERTIFICATE_FILE"):
        load()
    monkeypatch.setenv(f"{prefix}_CA_FILE", str(certificates.server_key))
    with pytest.raises(SettingsError, match=f"{prefix}_CA_FILE"):
        load()


def test_the_socket_of_grpc_may_be_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(load().grpc_socket) == "/tmp/telemetry_ingest.sock"
    monkeypatch.setenv("IOT_GRPC_SOCKET", "-")
    assert load().grpc_socket is None
