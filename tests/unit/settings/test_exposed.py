"""Gateways that may not start: nobody sends in the clear, or without an account, from beyond the machine."""

from pathlib import Path
from typing import Any

import pytest

from app.errors import SettingsError
from app.settings import Settings
from app.settings.exposed import refuse_exposed

ALL = ("http", "tcp", "grpc", "quic")
FILE = Path("/somewhere.pem")
QUIC = {"quic_certificate_file": FILE, "quic_ca_file": FILE}


def settings(**changes: Any) -> Settings:
    return Settings().model_copy(update=changes)


def faults(ways: tuple[str, ...], **changes: Any) -> str:
    with pytest.raises(SettingsError) as found:
        refuse_exposed(settings(**changes), ways)
    return str(found.value)


def test_on_this_machine_all_may_start() -> None:
    refuse_exposed(settings(**QUIC), ALL)
    refuse_exposed(settings(gateway_anonymous_account="guest", **QUIC), ALL)
    for host in ("localhost", "127.0.0.5", "::1"):
        refuse_exposed(settings(http_host=host), ("http",))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example.com"])
@pytest.mark.parametrize("way", ["http", "tcp"])
def test_beyond_it_a_certificate_is_wanted(way: str, host: str) -> None:
    said = faults((way,), **{f"{way}_host": host})
    assert f"IOT_{way.upper()}_HOST" in said
    assert f"IOT_{way.upper()}_CERTIFICATE_FILE" in said
    refuse_exposed(settings(**{f"{way}_host": host, f"{way}_certificate_file": FILE}), (way,))
    refuse_exposed(settings(**{f"{way}_host": host, "gateway_behind_proxy": True}), (way,))
    refuse_exposed(settings(**{f"{way}_host": host}), ())  # who does not start it is not asked


def test_grpc_is_reached_from_beyond_only_where_it_has_a_port() -> None:
    refuse_exposed(settings(grpc_host="0.0.0.0"), ("grpc",))
    assert "IOT_GRPC_CERTIFICATE_FILE" in faults(("grpc",), grpc_host="0.0.0.0", grpc_port=5000)


def test_nobody_is_anonymous_beyond_this_machine() -> None:
    said = faults(("http",), http_host="::", http_certificate_file=FILE, gateway_anonymous_account="guest")
    assert "IOT_GATEWAY_ANONYMOUS_ACCOUNT" in said
    for host in ("::", "127.0.0.1"):
        proxied = faults(("http", "tcp"), http_host=host, gateway_behind_proxy=True, gateway_anonymous_account="guest")
        assert proxied.count("IOT_GATEWAY_ANONYMOUS_ACCOUNT is for this machine alone") == 1, "whatever it listens on"


def test_quic_needs_its_files_wherever_it_listens_and_all_faults_are_named_at_once() -> None:
    said = faults(ALL, http_host="::", tcp_host="::")
    for name in ("IOT_QUIC_CERTIFICATE_FILE", "IOT_QUIC_CA_FILE", "IOT_HTTP_HOST", "IOT_TCP_HOST"):
        assert name in said
