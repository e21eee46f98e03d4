"""What stack.env says of the gateways is where their settings put them."""

from pathlib import Path

import pytest

from app.core.routing.tokens import is_token
from app.local.ingest.gateways import LONGEST_SOCKET, LocalGateways
from app.local.layout import DEFAULT_PORTS, WAYS, Layout
from app.settings import Settings
from tests.deploy.settings_named import unknown


def gateways(root: Path) -> LocalGateways:
    return LocalGateways(Layout(root), DEFAULT_PORTS, "operator")


@pytest.mark.parametrize("way", WAYS)
def test_the_settings_of_a_way_are_settings(tmp_path: Path, way: str) -> None:
    made = gateways(tmp_path)
    made.prepare([way])
    given = made.settings(way)
    assert given
    assert unknown(given) == set()
    settings = Settings(_env_file=None, **{name.removeprefix("IOT_").lower(): value for name, value in given.items()})  # type: ignore[arg-type]
    assert {name for name in given} <= {f"IOT_{name.upper()}" for name in settings.model_fields_set}


def test_addresses_are_those_of_the_settings(tmp_path: Path) -> None:
    made = gateways(tmp_path)
    made.prepare(WAYS)
    said = made.addresses(WAYS)
    http, tcp, grpc, quic = map(made.settings, WAYS)
    assert said["HTTP_URL"] == f"http://{http['IOT_HTTP_HOST']}:{http['IOT_HTTP_PORT']}"
    assert said["TCP_ADDRESS"] == f"{tcp['IOT_TCP_HOST']}:{tcp['IOT_TCP_PORT']}"
    assert said["GRPC_SOCKET"] == grpc["IOT_GRPC_SOCKET"]
    assert said["QUIC_ADDRESS"] == f"{quic['IOT_QUIC_HOST']}:{quic['IOT_QUIC_PORT']}"
    assert said["QUIC_CA"] == quic["IOT_QUIC_CA_FILE"]
    assert all(Path(said[name]).is_file() for name in ("QUIC_CA", "QUIC_CERT", "QUIC_KEY"))
    assert {said[f"{way.upper()}_METRICS_URL"] for way in WAYS} == {
        f"http://127.0.0.1:{DEFAULT_PORTS[way]}" for way in WAYS
    }
    assert is_token(said["INGEST_TOKEN"])
    assert made.addresses(["http"])["INGEST_TOKEN"] == said["INGEST_TOKEN"]
    assert (tmp_path / "ingest" / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ingest").stat().st_mode & 0o777 == 0o700, "whoever opens the socket in it is the operator"


def test_of_ways_that_are_not_wanted_nothing_is_said_or_made(tmp_path: Path) -> None:
    made = gateways(tmp_path)
    assert made.addresses(()) == {}
    assert set(made.addresses(["tcp"])) == {"INGEST_TOKEN", "TCP_ADDRESS", "TCP_METRICS_URL"}
    made.prepare(["tcp"])
    assert not made.certificates.ca.exists()
    assert made.settings("worker") == {}


def test_a_sockets_path_is_one_that_the_system_takes(tmp_path: Path) -> None:
    assert gateways(tmp_path).socket == tmp_path / "ingest" / "grpc.sock"
    deep = gateways(tmp_path / ("d" * 100)).socket
    assert len(bytes(deep)) <= LONGEST_SOCKET
    assert deep != gateways(tmp_path / ("e" * 100)).socket
