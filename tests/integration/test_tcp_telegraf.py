"""Telegraf's socket_writer, with a client certificate instead of a login, writes to a real gateway."""

import json
from pathlib import Path

import pytest

from app.local.servers.common import free_port
from tests.integration.test_tcp_gateway import on_topic
from tests.quic_rig import SERVER, Authority
from tests.servers import KafkaServer, MqttServer
from tests.telegraf import send_once, telegraf
from tests.workers import Site, until
from tools.faults.ways.setup import open_account

pytestmark = [pytest.mark.integration]

OPTIONS = """
  address = "tcp://localhost:{port}"
  data_format = "influx"
  tls_ca = "{ca}"
  tls_cert = "{certificate}"
  tls_key = "{key}"
"""


async def test_socket_writer(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    program = telegraf()
    authority, port = Authority(tmp_path), free_port()
    server, client = authority.issue("gateway", usage=SERVER, hosts=["localhost"]), authority.issue(unique)
    more = {
        "tcp_port": port, "tcp_format": "influx", "tcp_certificate_file": server.certificate,
        "tcp_key_file": server.key, "tcp_ca_file": authority.file,
    }  # fmt: skip
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await site.prepare([])
    await open_account(site)
    began = 1764475200000000000
    fields = 'load={0}.5,up={0}i,text="a \\"b\\" \\\\c"'
    lines = [
        f"sys\\ tem,device_id=d{number % 5},disk=/dev/sd\\,a {fields.format(number)} {began + number}"
        for number in range(1000)
    ]
    options = OPTIONS.format(port=port, ca=authority.file, certificate=client.certificate, key=client.key)
    with site.program("tcp") as gateway:
        await gateway.ready()
        await send_once(program, tmp_path, lines, "socket_writer", options)

        async def taken() -> bool:
            _, page = await gateway.get("/metrics")
            return 'iot_gateway_records_total{gateway="tcp"} 1000.0' in page

        await until(taken, 20, lambda: gateway.tail())
        records = await on_topic(site)
    assert len(records) == 1000
    assert {record.key for record in records} == {f"{unique}/d{number}".encode() for number in range(5)}
    found = sorted((json.loads(record.value) for record in records), key=lambda one: one["up"])
    assert [one["up"] for one in found] == list(range(1000))
    expected = {"measurement": "sys tem", "disk": "/dev/sd,a", "text": 'a "b" \\c'}
    assert {name: found[7][name] for name in expected} == expected
    assert (found[7]["load"], found[7]["timestamp"]) == (7.5, pytest.approx(began / 1e9, abs=1e-6))
