"""Worker and notifier with the accounts, password files and pooler of docker-compose.yml: message to sent alert."""

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app.gateways.mqtt.packets import Publish
from app.gateways.mqtt.records import to_record
from app.local.servers.postgres import Postgres
from tests.deploy import compose
from tests.deploy.accounts import apply
from tests.deploy.test_pgbouncer import pgbouncer
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("pgbouncer") is None or shutil.which("psql") is None,
        reason="PgBouncer or psql is not installed: apt-get install pgbouncer postgresql-client",
    ),
]
RULES = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}]


def composed(name: str, port: int, secrets: Path) -> dict[str, object]:
    """What docker-compose.yml says of the database, with this test's address and files."""
    given = compose.services()[name]["environment"]
    return {
        "database_url": given["IOT_DATABASE_URL"].replace("pgbouncer:6432", f"127.0.0.1:{port}"),
        "database_password_file": secrets / Path(given["IOT_DATABASE_PASSWORD_FILE"]).name,
        "database_statement_cache": given["IOT_DATABASE_STATEMENT_CACHE"],
    }


async def send(site: Site, messages: list[tuple[str, dict[str, object]]]) -> None:
    """Put messages on the topic as the bridge does."""
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        for topic, fields in messages:
            payload = json.dumps(fields).encode()
            record = to_record(Publish(topic, payload, 0, []), int(time.time() * 1000))
            await producer.send_and_wait(
                site.settings.kafka_topic, record.value, key=record.key, headers=list(record.headers)
            )


async def test_the_path_with_no_more_rights_than_it_needs(
    kafka: KafkaServer, mosquitto: MqttServer, server: Postgres, accounts_database: str, secrets: Path,
    server_dir: Path, tmp_path: Path, unique: str,
) -> None:  # fmt: skip
    assert apply(accounts_database, secrets).returncode == 0
    with pgbouncer(server_dir, server, accounts_database, secrets) as port:
        site = Site(kafka.bootstrap, accounts_database, mosquitto, unique, tmp_path)
        worker = Site(
            kafka.bootstrap, accounts_database, mosquitto, unique, tmp_path, composed("worker", port, secrets)
        )
        notifier = Site(
            kafka.bootstrap, accounts_database, mosquitto, unique, tmp_path, composed("notifier", port, secrets)
        )
        await site.prepare(RULES)
        with worker.program("worker") as storing, notifier.program("notifier") as telling:
            await storing.ready()
            await telling.ready()
            now = datetime.now(UTC).isoformat()
            await send(site, [
                (f"users/{unique}/devices/d1/telemetry", {"sequence_id": 1, "timestamp": now, "temperature": 91.5}),
                (f"iot/{unique}/status", {"status": "online"}),
                ("users/other/config", {"rules": RULES}),
            ])  # fmt: skip

            async def reported() -> bool:
                rows = await site.fetch(
                    "SELECT 1 FROM alert_history WHERE user_id = $1 AND sent_at IS NOT NULL", unique
                )
                return len(rows) == 1

            await until(reported, 60, lambda: f"{storing.tail()}\n{telling.tail()}")
            await site.settled_input()
            counts = await site.fetch(
                "SELECT (SELECT count(*) FROM raw_telemetry), (SELECT count(*) FROM device_status),"
                " (SELECT count(*) FROM user_configs)"
            )
            assert tuple(counts[0]) == (1, 1, 2)
            telling.stop()
            storing.stop()
