"""`iot-stream push` as somebody runs it, against a real server that fails as a test says."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import grpc

from app.protobuf.metrics_pb2 import Metric
from tests.contract.client.scripted_gateway import Fail, ScriptedGateway
from tests.waiting import until
from tools.command import ROOT, iot_stream


def written(path: Path, count: int) -> Path:
    """Lines of both kinds, every hundredth broken."""
    lines = []
    for number in range(count):
        if number % 100 == 50:
            lines.append("{broken")
        elif number % 2:
            lines.append(json.dumps({"user_id": "u", "device_id": "d", "sequence_id": number, "timestamp": 1795226400}))
        else:
            lines.append(json.dumps({"node_id": "n", "sensor_id": "s", "value": number}))
    path.write_text("\n".join(lines) + "\n")
    return path


async def test_a_file_is_pushed_whatever_fails(gateway: ScriptedGateway, tmp_path: Path) -> None:
    gateway.steps.extend([None, Fail(taken=True), None, Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "", 20)])
    gateway.never = lambda item: item.sequence_id == 501
    source, mark, token = written(tmp_path / "readings.ndjson", 1000), tmp_path / "mark", tmp_path / "token"
    token.write_text("t-1\n")
    refused = tmp_path / "refused.ndjson"
    words: list[str | Path] = ["push", source, "--grpc", gateway.target, "--batch", "100", "--token-file", token]
    done = await iot_stream({}, *words, "--resume", mark, "--refused", refused, "--json")
    assert done.code == 1, done.error
    figures = json.loads(done.out)
    assert (figures["accepted"], figures["refused"]) == (989, 11)
    assert figures["reasons"] == {"bad_json": 10, "bad_id": 1}
    assert re.search(r"^iot-stream push: [A-Z_]+: .*; again in 0\.\d s \(failure 1\)$", done.error, re.M), done.error
    assert gateway.metadata[-1]["authorization"] == "Bearer t-1"
    said = [json.loads(line) for line in refused.read_text().splitlines()]
    assert sorted(one["line"] for one in said if one["reason"] == "bad_json") == list(range(51, 1000, 100))
    values = {item.value for item in gateway.taken if isinstance(item, Metric)}
    sequence_ids = {item.sequence_id for item in gateway.taken if not isinstance(item, Metric)}
    assert len(values) + len(sequence_ids) == 989
    again = await iot_stream({}, *words, "--resume", mark)
    assert (again.code, again.out.split(",")[0]) == (0, "0 accepted"), "all of it was done"


async def test_a_killed_push_goes_on_where_it_was(gateway: ScriptedGateway, tmp_path: Path) -> None:
    source, mark = written(tmp_path / "readings.ndjson", 50), tmp_path / "mark"
    reading, writing = os.pipe()
    words = ("push", "-", "--grpc", gateway.target, "--resume", str(mark))
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *words, stdin=reading, stdout=asyncio.subprocess.DEVNULL, cwd=ROOT
    )
    os.close(reading)
    os.write(writing, source.read_bytes())
    await until(lambda: len(gateway.taken) == 50 and mark.exists() and '"line": 51,' in mark.read_text(), 60)
    first.send_signal(signal.SIGKILL)
    await first.wait()
    os.close(writing)
    more = source.read_bytes() + b'{"node_id":"n","sensor_id":"s","value":1000}\n'
    source.write_bytes(more)
    second = await iot_stream({}, "push", source, "--grpc", gateway.target, "--resume", mark)
    assert (second.code, second.out.split(",")[0]) == (0, "1 accepted"), second.error
    assert len(gateway.taken) == 51


async def test_patience_and_refusals_end_it_in_words(gateway: ScriptedGateway, tmp_path: Path) -> None:
    source, mark = written(tmp_path / "readings.ndjson", 10), tmp_path / "mark"
    gateway.steps.append(Fail(grpc.StatusCode.UNAUTHENTICATED, "no such token"))
    done = await iot_stream({}, "push", source, "--grpc", gateway.target, "--resume", mark)
    assert done.code == 1
    assert "iot-stream: the gateway refuses: UNAUTHENTICATED: no such token" in done.error
    gateway.stop()
    away = await iot_stream({}, "push", source, "--grpc", gateway.target, "--resume", mark, "--give-up", "0.3")
    assert away.code == 1
    assert "iot-stream: no ack within 0.3 s: UNAVAILABLE: unix:" in away.error
    assert away.error.count("Traceback") == 0


async def test_the_first_line_that_is_refused_is_named(tmp_path: Path, gateway: ScriptedGateway) -> None:
    source = tmp_path / "readings.ndjson"
    source.write_text("{broken\n")
    done = await iot_stream({}, "push", source, "--grpc", gateway.target)
    assert (done.code, done.out.split(",")[1].split(" (")[0]) == (1, " 1 refused")
    assert re.fullmatch(r"iot-stream push: first refused: line 1: .*; --refused FILE keeps all of them\n", done.error)


async def test_wrong_usage_is_named(tmp_path: Path) -> None:
    none = await iot_stream({}, "push", tmp_path / "none.ndjson")
    assert (none.code, "cannot read" in none.error) == (2, True)
    source = written(tmp_path / "readings.ndjson", 1)
    for wrong, words in (
        ("gateway", "it names no port; give host:port"),
        ("gateway:http", "a port is a number"),
        ("http://gateway:50051", "give host:port or unix:///path"),
        ("unix:", "it names no socket"),
        ("", "give host:port or unix:///path"),
    ):
        target = await iot_stream({}, "push", source, "--grpc", wrong)
        assert (target.code, words in " ".join(target.error.split())) == (2, True), target
        assert "Traceback" not in target.error
    for option in ("--token-file", "--ca", "--certificate", "--key"):
        named = await iot_stream({}, "push", source, "--grpc", "gateway:50051", option, tmp_path / "none.pem")
        assert (named.code, "does not exist" in named.error) == (2, True), named
