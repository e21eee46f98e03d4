"""A program says at its start that protobuf is the slow one, and which variable makes it so."""

import os
import subprocess
import sys

import pytest

from app.errors import PermanentError
from app.runtime.protobuf.implementation import require_upb

PROGRAM = "from app.runtime.protobuf.implementation import require_upb; require_upb()"


def test_the_fast_one_is_in_use() -> None:
    require_upb()


def test_another_is_refused() -> None:
    with pytest.raises(PermanentError, match="protobuf runs as 'python'"):
        require_upb("python")


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_a_gateway_with_the_slow_one_does_not_start(way: str) -> None:
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "IOT_LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [sys.executable, "-m", "app", way], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "iot-stream: protobuf runs as 'python'" in done.stderr


def test_a_process_with_the_slow_one_says_so() -> None:
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "leave PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION unset" in done.stderr
