"""Rules of all users, rules of N of M readings, messages with placeholders and rules of iot/*: what a worker process
does with them while they are edited, and when it is killed.
"""

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bridges import Publisher, publisher
from tests.integration.test_notifier import listening
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until
from tools.audit import read

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MESSAGE = "{device_id} of {user_id}: {value:.1f} over {threshold}, door {door}, {engine.oil:.2f} bar, {nothing}"


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    more = {"kafka_partitions": 4, "alerts_per_minute": 0}
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare([])
    return made


def rule(rule_id: str, key: str, threshold: float, **more: object) -> dict[str, object]:
    """A rule with `>`."""
    return {"id": rule_id, "key": key, "operator": ">", "threshold": threshold, "message": MESSAGE, **more}


class World:
    """A site and what its devices send."""

    def __init__(self, site: Site, client: Publisher) -> None:
        self.site, self._client, self._number = site, client, 0

    def user(self, name: str) -> str:
        """A user of this site."""
        return f"{self.site.unique}{name}"

    async def sends(self, topic: str, /, **fields: object) -> str:
        """Publish one reading, newer than all before; its time."""
        self._number += 1
        time = datetime.now(UTC).isoformat()
        body = {"time": time, "sequence_id": self._number, "door": "open", "engine": {"oil": 2.345}, **fields}
        await self._client.publish([(topic, json.dumps(body).encode())])
        return time

    async def reads(self, name: str, device: str = "d", /, **fields: object) -> str:
        """A reading of a device of users/*."""
        return await self.sends(f"users/{self.user(name)}/devices/{device}/telemetry", **fields)

    async def rules(self, user: str, *rules: dict[str, object]) -> None:
        """Write a user's rules by SQL; none of them deletes the row."""
        await self.site.fetch("DELETE FROM user_configs WHERE user_id = $1", user)
        if rules:
            await self.site.fetch("INSERT INTO user_configs (user_id, rules) VALUES ($1, $2)", user, json.dumps(rules))

    async def events(self, name: str, device: str = "d", rule_id: str = "hot") -> list[dict[str, Any]]:
        """The alert events of a rule on a device, once each, in order."""
        events = [json.loads(one.value) for one in await read(self.site, self.site.settings.kafka_alerts_topic)]
        wanted = (self.user(name), device, rule_id)
        found = [one for one in events if (one["user_id"], one["device_id"], one["rule_id"]) == wanted]
        return list({(one["alert_id"], one["status"]): one for one in found}.values())

    async def told(self, name: str, device: str = "d", rule_id: str = "hot") -> list[str]:
        """The same in short: status, threshold, and the cause if there is one."""
        found = await self.events(name, device, rule_id)
        return [f"{one['status']} {one['threshold']} {one.get('cause', '')}".strip() for one in found]

    async def shows(self, wanted: dict[str, list[str]], **fields: object) -> None:
        """Have the device of each user read until the rule `hot` has done there what is wanted."""
        found = dict[str, list[str]]()

        async def shown() -> bool:
            nonlocal found
            for name in wanted:
                await self.reads(name, **fields)
            await self.site.settled_input()
            found = {name: await self.told(name) for name in wanted}
            return found == wanted

        await until(shown, 60, lambda: f"wanted {wanted}, found {found}")

    async def stored(self) -> None:
        """Wait until all readings are rows; their offsets need not be committed."""

        async def there() -> bool:
            return len(await self.site.fetch("SELECT FROM raw_telemetry")) == self._number

        await until(there, 60, lambda: f"not all of {self._number} readings are stored")


async def test_rules_of_all_users_of_many_readings_and_of_nodes_under_a_running_worker(site: Site) -> None:
    async with publisher(site.mqtt, f"d-{site.unique}") as client, listening(site.mqtt, f"{site.unique}b") as heard:
        with contextlib.ExitStack() as stack:
            programs = [stack.enter_context(site.program(name)) for name in ("worker", "bridge", "notifier")]
            for program in programs:
                await program.ready()
            world = World(site, client)
            await rules_of_all_users(world)
            await messages_are_filled_in(world, heard)
            await a_device_of_a_node(world)
            await three_of_five(world, programs[0])


async def rules_of_all_users(world: World) -> None:
    """An edit reaches the devices of all; a user's own rule of the same id takes its place while it stands."""
    await world.rules("*", rule("hot", "temperature", 80))
    a, b, c = ["FIRING 80"], ["FIRING 80"], ["FIRING 80"]
    await world.shows({"a": a, "b": b, "c": c}, temperature=85)
    await world.rules(world.user("b"), rule("hot", "temperature", 90))
    await world.rules(world.user("c"), {"id": "hot", "enabled": False})
    b, c = [*b, "RESOLVED 80 rule_changed"], [*c, "RESOLVED 80 rule_changed"]
    await world.shows({"a": a, "b": b, "c": c}, temperature=85)
    await world.rules("*", rule("hot", "temperature", 70))
    a = [*a, "RESOLVED 80 rule_changed", "FIRING 70"]
    await world.shows({"a": a, "b": b, "c": c}, temperature=85)
    b = [*b, "FIRING 90"]
    await world.shows({"a": a, "b": b, "c": c}, temperature=95)
    await world.rules(world.user("b"))
    b = [*b, "RESOLVED 90 rule_changed", "FIRING 70"]
    await world.shows({"a": a, "b": b, "c": c}, temperature=95)
    await world.rules("*")
    a, b = [*a, "RESOLVED 70 rule_changed"], [*b, "RESOLVED 70 rule_changed"]
    await world.shows({"a": a, "b": b, "c": c}, temperature=95)


async def messages_are_filled_in(world: World, heard: list[dict[str, Any]]) -> None:
    """As the user b received them over MQTT."""

    async def all_came() -> bool:
        return len(heard) >= 6

    await until(all_came, 30, lambda: f"heard {heard}")
    who = f"d of {world.user('b')}"
    texts = [
        f"{who}: {value:.1f} over {threshold}, door open, 2.35 bar, {{nothing}}"
        for value, threshold in ((85, 80), (95, 90), (95, 70))
    ]
    assert [(one["status"], one["message"]) for one in heard] == [
        (status, text) for text in texts for status in ("FIRING", "RESOLVED")
    ]


async def a_device_of_a_node(world: World) -> None:
    """The worker has it in memory from its first reading on; each edit reaches it."""
    topic = f"iot/{world.user('n')}/s/telemetry"
    await world.sends(topic, value=75)
    await world.stored()
    for threshold, wanted in ((70, ["FIRING 70"]), (80, ["FIRING 70", "RESOLVED 70 rule_changed"])):
        await world.rules(world.user("n"), rule("level", "value", threshold))

        async def shown(wanted: list[str] = wanted) -> bool:
            await world.sends(topic, value=75)
            await world.site.settled_input()
            return await world.told("n", "s", "level") == wanted

        await until(shown, 60, lambda: "the device of iot/* did not follow the edit of its rules")


async def three_of_five(world: World, worker: Running) -> None:
    """Killed twice in the middle of its window: the state comes from the disk, and then from the changelog."""
    await world.rules(world.user("q"), rule("hot", "temperature", 0), rule("surge", "current", 10, of=[3, 5]))
    await world.shows({"q": ["FIRING 0"]}, temperature=1)  # so the other rule is in force as well
    first, *_ = [await world.reads("q", "pump", current=current) for current in (20, 1, 20)]
    await world.stored()
    await dies(worker)
    await world.reads("q", "pump", current=1)
    await world.site.settled_input()
    assert await world.told("q", "pump", "surge") == []
    third = await world.reads("q", "pump", current=30)
    await world.reads("q", "pump", current=40)
    await world.stored()
    await dies(worker, forget=True)
    await world.reads("q", "pump", current=2)  # 20 1 30 40 2: three of five hold, still
    await world.site.settled_input()
    assert await world.told("q", "pump", "surge") == ["FIRING 10"]
    await world.reads("q", "pump", current=3)
    await world.site.settled_input()
    firing, resolved = await world.events("q", "pump", "surge")
    assert (firing["status"], resolved["status"]) == ("FIRING", "RESOLVED")
    assert firing["alert_id"] == resolved["alert_id"]
    assert (firing["value"], resolved["value"]) == (30, 3)
    times = (firing["first_seen"], firing["event_time"])
    assert [datetime.fromisoformat(time) for time in times] == [datetime.fromisoformat(time) for time in (first, third)]


async def dies(worker: Running, forget: bool = False) -> None:
    """kill -9, and a new start; `forget`: on another machine."""
    worker.kill()
    if forget:
        worker.forget()
    worker.start()
    await worker.ready()
