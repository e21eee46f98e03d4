"""A gateway that does what a test says."""

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.client.scripted_gateway import ScriptedGateway


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    """Listens on a UNIX socket, whose path has to be short."""
    path = Path(tempfile.gettempdir()) / f"iot-{secrets.token_hex(6)}.sock"
    made = ScriptedGateway(path)
    made.start()
    yield made
    made.stop()
    path.unlink(missing_ok=True)
