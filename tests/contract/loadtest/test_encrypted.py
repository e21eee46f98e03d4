"""The load tester's connections over TLS, to a real broker."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import TransientError
from app.loadtest.connection import LoadBroker
from app.runtime.tls import context
from tests.contract.loadtest.test_mosquitto import all_sent, senders
from tests.secured import Certificates, SecuredMosquitto, running
from tests.servers import server_directory

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> Iterator[SecuredMosquitto]:
    with server_directory() as directory, running(server := SecuredMosquitto(directory, certificates)):
        yield server


def broker(server: SecuredMosquitto, port: int, *files: Path) -> LoadBroker:
    return LoadBroker(server.host, port, server.username, server.password, context(*files))


async def test_readings_go_out_encrypted(secured: SecuredMosquitto, certificates: Certificates, unique: str) -> None:
    own = broker(secured, secured.mtls_port, certificates.ca, certificates.client, certificates.client_key)
    for number, where in enumerate((broker(secured, secured.tls_port, certificates.ca), own)):
        async with senders(where, f"{unique}{number}", rate=100, seconds=1) as made:
            await all_sent(made, cut=False)
        assert made.traffic.acked == 100


async def test_a_broker_that_is_not_trusted_is_one_clear_line(
    secured: SecuredMosquitto, certificates: Certificates, unique: str
) -> None:
    async with senders(broker(secured, secured.tls_port, certificates.strange_ca), unique) as made:
        with pytest.raises(TransientError, match=r"^no way into .*is not trusted .*IOT_MQTT_CA_FILE"):
            await made.connect(asyncio.Event())
    async with senders(broker(secured, secured.mtls_port, certificates.ca), unique) as made:
        with pytest.raises(TransientError, match=r"IOT_MQTT_CERTIFICATE_FILE"):
            await made.connect(asyncio.Event())
