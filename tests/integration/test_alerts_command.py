"""`iot-stream alerts` on the whole path: what it shows is so, and its commands reach the worker as a device's do."""

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.errors import PermanentError, TransientError
from app.local.servers.common import free_port
from app.local.servers.mosquitto import NOTIFIER, Mosquitto
from app.mqtt.one_shot import publish
from app.settings import Settings
from tests.integration.bridges import Publisher, publisher
from tests.integration.test_notifier import listening
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until
from tools.command import Done, iot_stream
from tools.documents import DOCS

pytestmark = pytest.mark.integration

RULE = {
    "key": "temperature", "operator": ">", "threshold": 80, "message": "too hot",
    "escalate": {"after_seconds": 30, "severity": "critical"},
}  # fmt: skip
TOPIC = "users/u/alerts/manage"
BEGAN = datetime.now(UTC) - timedelta(minutes=10)


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
    await made.prepare([RULE])
    return made


class Fleet:
    """Devices of one user; each reading is 60 seconds of event time after the one before."""

    def __init__(self, site: Site, client: Publisher) -> None:
        self._site, self._client, self._count = site, client, 0

    async def reads(self, temperature: float) -> None:
        """A reading of both devices, and wait until the worker has it."""
        self._count += 1
        time = (BEGAN + timedelta(seconds=60 * self._count)).isoformat()
        payload = json.dumps({"time": time, "sequence_id": self._count, "temperature": temperature}).encode()
        topics = [f"users/{self._site.unique}/devices/{device}/telemetry" for device in ("d1", "d2")]
        await self._client.publish([(topic, payload) for topic in topics])
        sql, wanted = "SELECT FROM raw_telemetry WHERE sequence_id = $1", self._count

        async def stored() -> bool:
            return len(await self._site.fetch(sql, wanted)) == 2

        await until(stored, 30, lambda: f"reading {wanted} is not stored")


def from_the_page(site: Site, command: str) -> list[str]:
    """The words of an example in docs/rules.md, with this test's names in it."""
    found = re.search(rf"^    iot-stream alerts ({command}\b.*)$", (DOCS / "rules.md").read_text(), re.MULTILINE)
    assert found
    names = {"alice": site.unique, "truck-1": "d1"}
    return [names.get(word, word) for word in shlex.split(found[1])]


async def alerts(site: Site, *words: str) -> Done:
    return await iot_stream(site.values, "alerts", *words)


async def states(site: Site) -> dict[str, str]:
    """Device -> state, as `list` has it."""
    found = (await alerts(site, "list", "--user", site.unique, "--json")).json
    return {one["device_id"]: one["state"] for one in found}


async def commanded(site: Site, command: str, state: str) -> None:
    """Give a command for d1 as the page shows it, and wait until its state shows in active_alerts."""
    done = await alerts(site, *from_the_page(site, command))
    assert (done.code, done.out.split()[1]) == (0, command.upper()), done.error

    async def obeyed() -> bool:
        found = await site.fetch("SELECT state FROM active_alerts WHERE device_id = 'd1'")
        return [row["state"] for row in found] == [state]

    await until(obeyed, 30, lambda: f"{command} was not obeyed")


async def test_commands_silence_an_alert_of_a_real_worker(site: Site) -> None:
    async with listening(site.mqtt, site.unique) as heard, publisher(site.mqtt, f"fleet-{site.unique}") as client:
        with site.program("worker") as worker, site.program("notifier") as notifier, site.program("bridge") as bridge:
            for program in (worker, notifier, bridge):
                await program.ready()
            fleet = Fleet(site, client)
            await fleet.reads(90)
            assert await states(site) == {"d1": "FIRING", "d2": "FIRING"}
            assert (await alerts(site, *from_the_page(site, "list"))).out.count(site.unique) == 2
            await commanded(site, "snooze", "SNOOZED")
            await fleet.reads(91)  # d2 is escalated, d1 would be
            assert await states(site) == {"d1": "SNOOZED", "d2": "FIRING"}
            await commanded(site, "enable", "FIRING")
            await fleet.reads(92)
            await commanded(site, "disable", "DISABLED")
            await fleet.reads(93)
            await commanded(site, "enable", "FIRING")
            await fleet.reads(94)
            await commanded(site, "ack", "ACKED")
            assert "ACKED by ann" in (await alerts(site, "list")).out
            await a_device_is_muted(site, fleet)
            await fleet.reads(20)
            await site.settled()
            assert await states(site) == {}
            await history_tells_the_same(site, heard)
    reported = {device: [words(one) for one in heard if one["device_id"] == device] for device in ("d1", "d2")}
    assert reported == {
        "d1": ["FIRING", "FIRING unmuted", "FIRING unmuted", "RESOLVED"],
        "d2": ["FIRING", "REMINDER escalated", "FIRING unmuted", "RESOLVED"],
    }


async def a_device_is_muted(site: Site, fleet: Fleet) -> None:
    """Also a device that has not sent anything, and what there is no rule for; all of it shows, and can be ended."""
    user = site.unique
    assert (await alerts(site, "list", "--muted")).out == "nothing is snoozed or disabled\n"
    for device, rule, *more in (("d2", "*"), ("new", "temperature", "--way", "users"), ("*", "$offline")):
        done = await alerts(site, "disable", user, device, rule, "--by", "ann", "--comment", "at work", *more)
        assert (done.code, done.error) == (0, "")
    refused = await alerts(site, "snooze", user, "*", "wrong")
    assert (refused.code, refused.out) == (1, "")
    assert "SNOOZE is refused: rule_id is wrong; the rules of this user are temperature" in refused.error
    refused = await alerts(site, "snooze", user, "nobody", "temperature")
    assert (refused.code, "no reading of device nobody" in refused.error) == (1, True)
    found = (await alerts(site, *from_the_page(site, "list --muted"), "--json")).json
    shown = [(one["device_id"], one["rule_id"], one["by"], one["snoozed_until"]) for one in found]
    assert shown == [("d2", "*", "ann", None), ("new", "temperature", "ann", None), ("*", "$offline", "ann", None)]

    async def disabled() -> bool:
        await fleet.reads(95)
        return (await states(site))["d2"] == "DISABLED"

    await until(disabled, 30, lambda: "d2 is not disabled")
    assert (await alerts(site, "disable", "*", "*", "temperature")).out.endswith("for all users\n")
    muted = (await alerts(site, "list", "--muted", "--user", "*", "--json")).json
    assert [(one["device_id"], one["rule_id"]) for one in muted] == [("*", "temperature")]
    assert (await alerts(site, "enable", "*", "*", "temperature")).code == 0
    assert (await alerts(site, "ack", "*", "d1", "temperature")).code == 1
    for one in found:
        assert (await alerts(site, "enable", user, one["device_id"], one["rule_id"], "--way", "users")).code == 0
    assert (await alerts(site, "list", "--muted", "--json")).json == []

    async def enabled() -> bool:
        await fleet.reads(96)
        return (await states(site))["d2"] == "FIRING"

    await until(enabled, 30, lambda: "d2 is still disabled")


def words(event: dict[str, Any]) -> str:
    return f"{event['status']} {event.get('cause') or ''}".rstrip()


async def history_tells_the_same(site: Site, heard: list[dict[str, Any]]) -> None:
    found = (await alerts(site, *from_the_page(site, "history"), "--json")).json
    recorded = sorted((one["device_id"], one["event_time"], words(one)) for one in found)
    assert recorded == sorted((one["device_id"], one["event_time"], words(one)) for one in heard)
    assert all(one["sent_at"] for one in found)
    assert len((await alerts(site, "history", "--device", "d2", "--limit", "2", "--json")).json) == 2
    shown = await alerts(site, "history", "--device", "d1", "--rule", "temperature")
    assert (shown.code, shown.out.count("FIRING unmuted"), shown.out.count("\n")) == (0, 2, 5)


async def test_the_tables_for_a_person(site: Site) -> None:
    names = "user_id, device_id, rule_id, alert_id, severity, message, value, threshold, first_seen, last_seen, state"
    await site.fetch(
        f"INSERT INTO active_alerts ({names}, snoozed_until) VALUES "
        "('alice', 'truck-1', 'temperature', 'a', 'critical', '[red]hot', 91.5, 80, now() - '2 h'::interval,"
        " now() - '2 h'::interval, 'SNOOZED', '2026-11-21T09:00:00Z'),"
        "('bob', 'van-1', 'door', 'b', 'info', 'open', NULL, NULL, now() + '1 h'::interval, now(), 'FIRING', NULL)"
    )
    shown = await alerts(site, "list")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert lines[1] == "alice truck-1 temperature critical SNOOZED until 11-21 09:00:00 91.5 2 h [red]hot"
    assert lines[2] == "bob van-1 door info FIRING 0 s open"
    assert [one["user_id"] for one in (await alerts(site, "list", "--device", "van-*", "--json")).json] == ["bob"]
    assert (await alerts(site, "list", "--rule", "none")).out == "no alert is open\n"
    assert (await alerts(site, "history")).out == "nothing was sent in this time\n"


async def test_a_command_that_nobody_could_obey_is_not_sent(site: Site) -> None:
    for arguments, why in (
        (("snooze", "u", "d", "r", "--minutes", "0"), "SNOOZE needs duration_minutes"),
        (("ack", "u/x", "d", "r"), "'u/x' is no user"),
        (("ack", "u", "a/b", "r"), "which no device has"),
    ):
        done = await alerts(site, *arguments)
        assert (done.code, done.out) == (2, "")
        assert why in done.error


def settings_of(server: MqttServer, username: str, password: str) -> Settings:
    return Settings(mqtt_host=server.host, mqtt_port=server.port, mqtt_username=username, mqtt_password=password)


def test_what_the_broker_refuses_is_said(server_dir: Path) -> None:
    broker = Mosquitto(server_dir)
    broker.start()
    try:
        broker.wait_ready()
        with pytest.raises(TransientError, match="start the bridge"):
            publish(settings_of(broker, broker.username, broker.password), TOPIC, b"{}")
        with pytest.raises(PermanentError, match=f"does not take {TOPIC} of {NOTIFIER}: Not authorized"):
            publish(settings_of(broker, NOTIFIER, broker.password_of(NOTIFIER)), TOPIC, b"{}")
        with pytest.raises(PermanentError, match=r"refuses operator: .*look at IOT_MQTT_USERNAME"):
            publish(settings_of(broker, "operator", "wrong"), TOPIC, b"{}")
    finally:
        broker.stop()
    with pytest.raises(TransientError, match=r"no way into the MQTT broker at 127\.0\.0\.1:"):
        publish(Settings(mqtt_port=free_port()), TOPIC, b"{}")
