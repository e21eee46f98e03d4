"""docs/protocols.md: each example, run as it stands there, brings its readings to Kafka and prints what it says."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from app.core.routing.tokens import PREFIX
from app.local.ingest.certificates import LocalCertificates
from app.local.servers.common import free_port
from app.postgres.queries import gateway_tokens
from app.postgres.queries.mqtt_accounts import AccountTable
from tests.integration.bridges import create_topics, read_topic
from tests.integration.test_ingest import ingest
from tests.servers import KafkaServer
from tools.command import ROOT

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "protocols.md"
TOKEN = PREFIX + "p" * 43


class Example(NamedTuple):
    """A block of the page, and what it says is printed."""

    section: str
    language: str
    code: str
    printed: str


def examples() -> list[Example]:
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        title = section.partition("\n")[0]
        blocks = re.findall(r"^```(bash|python)\n(.*?)^```\n(?:\n((?: {4}[^\n]*\n)+))?", section, re.M | re.S)
        found += [
            Example(title, language, code, re.sub(r"^ {4}", "", said, flags=re.M)) for language, code, said in blocks
        ]
    return found


def test_each_way_has_its_examples() -> None:
    shown = {(one.section, one.language) for one in examples()}
    assert shown == {
        *(("HTTP", "bash"), ("HTTP", "python"), ("TCP", "bash"), ("TCP", "python")),
        *(("gRPC", "bash"), ("gRPC", "python"), ("QUIC", "python"), ("Files and pipes", "bash")),
    }
    page = PAGE.read_text()
    assert all(f"{tool} " in page for tool in ("curl", "grpcurl"))


class Site(NamedTuple):
    """Where all gateways are, as the examples find it."""

    environment: Mapping[str, str]
    kafka: str
    topic: str


@pytest.fixture
async def site(kafka: KafkaServer, database: str, unique: str, tmp_path: Path) -> AsyncIterator[Site]:
    await create_topics(kafka.bootstrap, unique, f"{unique}-dlq")
    connection = await asyncpg.connect(database)
    await AccountTable(connection).add("operator", None, "a good password", [])  # not a secret
    await connection.execute("UPDATE mqtt_users SET is_superuser = true WHERE username = 'operator'")
    await gateway_tokens.add(connection, TOKEN, "operator", None, "", None)
    await connection.close()
    made = LocalCertificates(tmp_path / "certificates")
    made.make("operator")
    socket = Path(tempfile.gettempdir()) / f"iot-{secrets.token_hex(6)}.sock"  # a path of a socket has to be short
    tcp, quic = free_port(), free_port()
    settings = {
        "kafka_broker": kafka.bootstrap, "kafka_topic": unique, "kafka_dlq_topic": f"{unique}-dlq",
        "database_url": database, "tcp_port": tcp, "grpc_socket": socket, "quic_port": quic, "quic_ca_file": made.ca,
        "quic_certificate_file": made.server, "quic_key_file": made.server_key,
    }  # fmt: skip
    async with ingest(tmp_path / "log", settings, "--http", "--tcp", "--grpc", "--quic") as gateways:
        addresses = {
            "HTTP_URL": f"http://127.0.0.1:{gateways.port}", "TCP_ADDRESS": f"127.0.0.1:{tcp}",
            "GRPC_SOCKET": str(socket), "QUIC_ADDRESS": f"127.0.0.1:{quic}", "QUIC_CA": str(made.ca),
            "QUIC_CERT": str(made.client), "QUIC_KEY": str(made.client_key), "INGEST_TOKEN": TOKEN,
        }  # fmt: skip
        yield Site(addresses, kafka.bootstrap, unique)


def grpcurl() -> Path | None:
    """The program that scripts/grpcurl has built, or the system's; None where there is none."""
    built = subprocess.run([ROOT / "scripts" / "grpcurl", "--where"], capture_output=True, text=True, check=True)
    path = Path(built.stdout.strip())
    found = path if path.exists() else shutil.which("grpcurl")
    return Path(found) if found else None


def run(example: Example, site: Site, directory: Path, tool: Path | None) -> str:
    """What the example prints. Fails when the example does not end well."""
    programs = [str(Path(sys.executable).parent), *([str(tool.parent)] if tool else [])]
    path = os.pathsep.join([*programs, os.environ["PATH"]])
    shell = (
        [sys.executable, "-W", "error", "-c"] if example.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    )
    done = subprocess.run(
        [*shell, example.code], cwd=directory, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **site.environment, "PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, f"{example.code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


SAID = {
    "HTTP": (r'{"accepted":1,"rejected":\[\]}', r'{"accepted":2,"rejected":\[\]}'),
    "TCP": (r'{"ok":true}', r'"reason":"bad_time"', r'{"acked":2}'),
    "Files and pipes": (r'"accepted": 2, "refused": 0',),
}
GRPC = {  # by what is in the block
    "grpcurl": (r'"accepted": 1', r'"batch_id": "2",\s+"accepted": 1', r'"status": "STATUS_SERVING"'),
    "http2": (r"^grpc-status: 0",),  # curl leaves out the first lines of an answer that is quicker than its request
}


async def test_each_example_does_what_it_says(site: Site, tmp_path: Path) -> None:
    tool, left_out = grpcurl(), 0
    for example in examples():
        if "grpcurl -" in example.code and tool is None:
            left_out += 1
            continue
        printed = run(example, site, tmp_path, tool)
        if example.language == "python":
            assert printed == example.printed, example
        else:
            wanted = SAID.get(example.section) or GRPC["grpcurl" if "grpcurl -" in example.code else "http2"]
            for pattern in wanted:
                assert re.search(pattern, printed, re.M), (pattern, printed)
    sent = set(range(1, 1306)) - ({204} if left_out else set())
    records = await read_topic(site.kafka, site.topic, lambda found: len(found) >= 1305 + 104 - 3 * left_out)
    trucks = [record for record in records if record.key == b"alice/truck-1"]
    plant = [json.loads(record.value) for record in records if record.key == b"plant"]
    assert {json.loads(record.value)["sequence_id"] for record in trucks} == sent
    assert {one["value"] for one in plant} >= {4.25, 5, 6, *range(100)} | (set() if left_out else {4.5, 4.75})
    assert {dict(record.headers)["gateway"] for record in records} == {b"http", b"tcp", b"grpc", b"quic"}
    if left_out:
        pytest.skip("grpcurl is not there (scripts/grpcurl builds it): its examples were not run")
