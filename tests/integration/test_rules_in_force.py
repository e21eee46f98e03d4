"""Edits of rules on two real workers: edits take effect on both with no restart, and refused edits change nothing."""

import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings
from tests.integration.bridges import Publisher, publisher
from tests.integration.test_notifier import listening
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until
from tools.audit import read

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DEVICES = [f"d{number}" for number in range(12)]
ALL_FIRING = dict.fromkeys(DEVICES, "FIRING")
ALL_RESOLVED = dict.fromkeys(DEVICES, "RESOLVED")
APPLIED_WITHIN = 5.0  # seconds, promised


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": 4})
    await made.prepare([])
    return made


def above(threshold: float) -> list[dict[str, object]]:
    """A rule set."""
    return [{"key": "temperature", "operator": ">", "threshold": threshold, "message": "too hot"}]


class Fleet:
    """Devices of one user, which lie in all partitions; each reads 50 degrees."""

    def __init__(self, site: Site, client: Publisher) -> None:
        self._site, self._client, self._number = site, client, 0

    async def reads(self) -> None:
        """Send a reading of each device."""
        self._number += 1
        body = {"time": datetime.now(UTC).isoformat(), "sequence_id": self._number, "temperature": 50}
        topics = [f"users/{self._site.unique}/devices/{device}/telemetry" for device in DEVICES]
        await self._client.publish([(topic, json.dumps(body).encode()) for topic in topics])

    async def configures(self, rules: list[dict[str, object]]) -> None:
        """Rules by message."""
        await self._client.publish([(f"users/{self._site.unique}/config", json.dumps(rules).encode())])

    async def sees(self, change: Callable[[], Awaitable[None]], wanted: dict[str, str], how: str) -> None:
        """Make a change, and read until it shows on every device."""
        began, found = time.monotonic(), dict[str, str]()

        async def shown() -> bool:
            nonlocal found
            await self.reads()
            found = {device: status for device, status, _ in await reported(self._site)}
            return found == wanted

        await change()
        await until(shown, 60, lambda: f"{how}: {wanted} wanted, {found}")
        print(f"{how}: in force on every device of two workers after {time.monotonic() - began:.1f} s")


async def reported(site: Site) -> list[tuple[str, str, str]]:
    """(device, status, cause) of every alert event, once each, in order."""
    found = [json.loads(record.value) for record in await read(site, site.settings.kafka_alerts_topic)
             if not record.headers]  # fmt: skip
    once = {(one["alert_id"], one["status"]): one for one in found}.values()
    return [(one["device_id"], one["status"], one.get("cause", "")) for one in once]


async def of(worker: Running, name: str) -> float:
    """A metric of a worker, over all labels."""
    _, page = await worker.get("/metrics")
    families = text_string_to_metric_families(page)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def test_edits_are_in_force_on_every_worker_and_mistakes_are_not(site: Site) -> None:
    assert 2 * Settings().rules_poll + 1 <= APPLIED_WITHIN, "a change waits for a poll, the poll and a batch"
    async with (
        publisher(site.mqtt, f"d-{site.unique}") as client,
        listening(site.mqtt, site.unique, "config/errors") as answers,
    ):
        with contextlib.ExitStack() as stack:
            programs = [("worker", "a"), ("worker", "b"), ("bridge", "bridge"), ("notifier", "notifier")]
            a, b, *rest = (stack.enter_context(site.program(*names)) for names in programs)
            for program in (a, b, *rest):
                await program.ready()
            fleet = Fleet(site, client)
            await both_work(fleet, a, b)
            await edits_of_both_kinds(site, fleet)
            await a_mistake(site, fleet, answers, a, b)
            a.kill()
            a.start()
            await a.ready()
            b.stop()
            before = await reported(site)
            await fleet.reads()
            await site.settled()
            assert await reported(site) == before, "a worker that started after the mistake has the rules of before"
            assert await of(a, "iot_rules_users") == 1
            await fleet.sees(lambda: site.set_rules(above(60)), ALL_RESOLVED, "mended by SQL")
    assert len(answers) == 1, "nobody answers what stands there when it starts"


async def both_work(fleet: Fleet, *workers: Running) -> None:
    """Wait until each worker has devices."""

    async def busy() -> bool:
        await fleet.reads()
        return all([await of(worker, "iot_messages_received_total") for worker in workers])

    await until(busy, 60, lambda: "one of the workers has nothing to do")


async def edits_of_both_kinds(site: Site, fleet: Fleet) -> None:
    await fleet.sees(lambda: site.set_rules(above(40)), ALL_FIRING, "SQL")
    await fleet.sees(lambda: fleet.configures(above(60)), ALL_RESOLVED, "MQTT")
    await fleet.sees(lambda: fleet.configures(above(40)), ALL_FIRING, "MQTT")
    await fleet.sees(lambda: deleted(site), ALL_RESOLVED, "SQL, the row deleted")
    await fleet.sees(lambda: site.set_rules(above(30)), ALL_FIRING, "SQL")
    assert [cause for _, status, cause in await reported(site) if status == "RESOLVED"] == ["rule_changed"] * 24


async def deleted(site: Site) -> None:
    """No rules any more."""
    await site.fetch("DELETE FROM user_configs")


async def a_mistake(site: Site, fleet: Fleet, answers: list[dict[str, Any]], *workers: Running) -> None:
    """Named in the log and the metric of each worker, answered once; the alerts stay open."""
    before = await reported(site)
    await site.set_rules([*above(60), {"key": "door", "operator": "=", "threshold": 1, "message": "m"}])

    async def named() -> bool:
        return all(worker.events("rules_refused") for worker in workers) and bool(answers)

    await until(named, 60, lambda: f"not refused, or not answered: {answers}")
    why = 'rules[1].operator: "=" is not one of > < >= <= =='
    for worker in workers:
        (line,) = worker.events("rules_refused")
        assert (line["user_id"], line["reasons"]) == (site.unique, [why])
        assert await of(worker, "iot_rules_refused_total") == 1
    assert (answers[0]["reason"], answers[0]["error"]) == ("invalid_rules", why)
    await fleet.reads()
    await site.settled()
    assert await reported(site) == before
