"""vector.toml, and its programs run by VRL itself."""

import tomllib
from base64 import b64decode, b64encode
from functools import cache
from typing import Any, NamedTuple

import pytest

from tools.documents import ROOT

FILE = ROOT / "vector.toml"
# An event enters as JSON: bytes come in by base64, and leave so.
_ENTER = ".topic = .t\n.message = decode_base64!(.b)\ndel(.t)\ndel(.b)\n"
_LEAVE = "\n.message = encode_base64(string!(.message))\n."


class Record(NamedTuple):
    """What Vector writes to Kafka."""

    key: bytes
    value: bytes
    headers: dict[str, bytes]


def config() -> dict[str, Any]:
    """The file, parsed."""
    return tomllib.loads(FILE.read_text())


@cache
def vrl() -> Any:
    """The interpreter of Vector's language, or a skip where its package has no wheel."""
    module = pytest.importorskip("vrl_python", reason="vrl-python, VRL itself, has wheels for Linux on x86-64 only")
    return module.VRLRuntime()


def run(source: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event a program leaves. Raises ValueError when it does not compile, RuntimeError when it fails."""
    left: dict[str, Any] = vrl().execute(source, event).processed_event
    return left


@cache
def _program() -> str:
    return _ENTER + str(config()["transforms"]["record"]["source"]) + _LEAVE


def to_record(topic: str, payload: bytes) -> Record:
    """What becomes of one MQTT message."""
    event = run(_program(), {"t": topic, "b": b64encode(payload).decode()})
    headers = {name: value.encode() for name, value in event["kafka_headers"].items()}
    return Record(event["kafka_key"].encode(), b64decode(event["message"]), headers)
