"""The gateway does what its document says: schemathesis sends what the document allows, and what it does not."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.local.servers.common import free_port
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site
from tools.command import iot_stream
from tools.faults.ways.setup import open_account

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

EXAMPLES = 25  # of each operation, in each phase
HOOKS = '''
import schemathesis

@schemathesis.serializer("application/x-ndjson", "application/x-protobuf")
def as_it_is(context, value):
    """Bodies that the document describes as texts and bytes go out as they are made."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
'''
# Half of the messages are the account's own, so that some are taken.
CONFIGURATION = """
[dictionaries.own]
values = ["{user}"]

[parameters]
"path.user" = {{ dictionary = "own", probability = 0.5 }}
"path.node" = {{ dictionary = "own", probability = 0.5 }}
"""


async def test_every_answer_is_one_that_the_document_names(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    port = free_port()
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"http_port": port})
    await site.prepare([])
    await open_account(site)
    token = (await iot_stream(site.values, "users", "token", "add", unique)).out.strip()
    (tmp_path / "hooks.py").write_text(HOOKS)
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION.format(user=unique))
    with site.program("http") as http:
        await http.ready()
        url = f"http://127.0.0.1:{port}"
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json",
            "--header", f"Authorization: Bearer {token}", "--max-examples", str(EXAMPLES), "--seed", "13",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_schema_conformance,response_headers_conformance,unsupported_method,ignored_auth",
            "--phases", "examples,coverage,fuzzing", "--no-color", "--request-timeout", "10",
            cwd=tmp_path, env={"SCHEMATHESIS_HOOKS": "hooks", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = (await asyncio.wait_for(process.communicate(), 250))[0].decode()
        assert process.returncode == 0, said[-8000:]
        tested = re.search(r"(\d+) generated", said)
        assert tested, said[-3000:]
        assert int(tested[1]) > 5 * EXAMPLES, said[-3000:]
        status, page = await http.get("/metrics")
        assert status == 200
        assert 'outcome="accepted"' in page, "some of it was taken"
        assert http.events("http_request_failed") == []
    assert json.dumps(said).count("Server error") == 0
