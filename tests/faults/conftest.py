"""What the tests that hurt things share."""

from pathlib import Path

import pytest

from tests.faults.load import RULES
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Topics and rules of this test alone."""
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
    await made.prepare(RULES)
    return made
