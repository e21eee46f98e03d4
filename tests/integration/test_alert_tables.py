"""active_alerts and alert_history against the devices' states, after a kill between each two steps of the path."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from app.core.model.times import moment
from app.core.state.device_state import decode
from app.core.state.keys import MARK_KEY
from tests.integration.dying_worker import STEPS
from tests.servers import KafkaServer, MqttServer
from tests.workers import COMMANDS, Running, Site, until
from tools.audit import read

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}


class Devices:
    """Each named for the step that its worker dies after, and for what that batch does to its alert."""

    def __init__(self, site: Site, producer: AIOKafkaProducer) -> None:
        self._site, self._producer, self._number = site, producer, 0

    async def read(self, **temperatures: float) -> None:
        """A reading of each."""
        for device, temperature in temperatures.items():
            self._number += 1
            body = {"time": datetime.now(UTC).isoformat(), "sequence_id": self._number, "temperature": temperature}
            await self._send(device, f"devices/{device}/telemetry", body)

    async def are_worked_on(self, step: str) -> None:
        """An alert fires, another is snoozed, a third is resolved, all in one batch."""
        await self.read(**{f"{step}_fires": 90, f"{step}_resolves": 20})
        body = {"device_id": f"{step}_snoozes", "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 30}
        await self._send(f"{step}_snoozes", "alerts/manage", body)
        await self._producer.flush()

    async def _send(self, device: str, topic: str, body: dict[str, object]) -> None:
        user = self._site.unique
        headers = [("mqtt_topic", f"users/{user}/{topic}".encode())]
        key, value = f"{user}/{device}".encode(), json.dumps(body).encode()
        await self._producer.send(self._site.settings.kafka_topic, value, key, headers=headers)


@pytest.fixture(params=[8 << 20, 1], ids=["one batch", "a batch for each alert"])
async def site(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path, request: Any
) -> Site:
    more = {"kafka_partitions": 1, "kafka_instance_id": "dying"}  # back within the session: it has its partition back
    more["batch_alerts_max_bytes"] = request.param
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare([HOT])
    return made


async def test_they_agree_whichever_step_a_kill_comes_after(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = tmp_path / "die_after"
    monkeypatch.setenv("DIE_AFTER", str(orders))
    monkeypatch.setitem(COMMANDS, "dying", ["tests.integration.dying_worker"])
    wanted = {f"{step}_{what}": "FIRING" for step in STEPS for what in ("resolves", "snoozes")}
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=200) as producer:
        devices = Devices(site, producer)
        with site.program("dying") as worker:
            await worker.ready()
            await devices.read(**dict.fromkeys(wanted, 90))
            await producer.flush()
            await site.settled_input()
            assert await open_alerts(site) == wanted
            for step in STEPS:
                orders.write_text(step)
                await devices.are_worked_on(step)
                await dead(worker)
                assert not orders.exists(), f"it died of something else:\n{worker.tail()}"
                worker.start()
                await site.settled_input()
                del wanted[f"{step}_resolves"]
                wanted |= {f"{step}_fires": "FIRING", f"{step}_snoozes": "SNOOZED"}
                assert await open_alerts(site) == wanted
            worker.stop()
    await each_is_told_once(site)


async def dead(worker: Running) -> None:
    """Wait until it has killed itself."""

    async def gone() -> bool:
        return not worker.alive

    await until(gone, 60, lambda: f"the worker lives:\n{worker.tail()}")


async def open_alerts(site: Site) -> dict[str, str]:
    """Device -> state, which active_alerts and the changelog of the states agree upon."""
    rows = await site.fetch("SELECT device_id, alert_id, first_seen, last_seen, value, state FROM active_alerts")
    states = {r.key: r.value for r in await read(site, f"{site.settings.group_id}-state-changelog")}
    assert MARK_KEY in states
    states = {key: value for key, value in states.items() if not key.startswith(b"\0")}
    wanted = []
    for key, value in states.items():
        state = decode(value)
        for rule_id, one in state.episodes.items():
            muted = state.notes[rule_id].snoozed_until if rule_id in state.notes else 0
            word = "SNOOZED" if moment(muted) > state.latest else "FIRING"
            times = moment(one.first_seen), moment(one.last_seen)
            wanted.append((key.decode().partition("/")[2], one.alert_id, *times, one.value, word))
    assert sorted(map(tuple, rows)) == sorted(wanted)
    return {row["device_id"]: row["state"] for row in rows}


async def each_is_told_once(site: Site) -> None:
    """Each device has one alert; what came twice on the topic is the same, and in the table once."""
    reported: dict[tuple[str, str], dict[str, Any]] = {}
    for record in await read(site, site.settings.kafka_alerts_topic):
        event = json.loads(record.value)
        assert reported.setdefault((event["device_id"], event["status"]), event) == event
    history = await site.fetch("SELECT device_id, status, alert_id FROM alert_history")
    assert sorted(map(tuple, history)) == sorted((*key, event["alert_id"]) for key, event in reported.items())
    wanted = [(f"{step}_{what}", "FIRING") for step in STEPS for what in ("fires", "resolves", "snoozes")]
    assert sorted(reported) == sorted(wanted + [(f"{step}_resolves", "RESOLVED") for step in STEPS])
    assert len({event["alert_id"] for event in reported.values()}) == 3 * len(STEPS)
