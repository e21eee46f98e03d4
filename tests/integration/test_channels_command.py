"""`iot-stream channels` on a real database and with a real SMTP server: nothing that it prints has a password in it."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from tests.integration.test_channels import MailServer, mail
from tools.command import Done, iot_stream

__all__ = ["mail"]
pytestmark = pytest.mark.integration
SECRET = "hunter2"


class Operator:
    """The command, by the settings of an operator."""

    def __init__(self, database: str, directory: Path, **settings: object) -> None:
        self._settings, self._directory = {"database_url": database, **settings}, directory

    async def run(self, *words: str) -> Done:
        done = await iot_stream(self._settings, "channels", *words, cwd=self._directory)
        assert SECRET not in done.out + done.error
        return done

    async def add(self, user: str, url: str, *words: str) -> Done:
        (self._directory / "url").write_text(url + "\n")
        return await self.run("add", user, "--url-file", "url", *words)

    async def listed(self, *words: str) -> list[tuple[object, ...]]:
        rows = (await self.run("ls", "--json", *words)).json
        return [(one["user_id"], one["number"], one["url"], one["severity"], *one["devices"]) for one in rows]


@pytest.fixture
def operator(database: str, tmp_path: Path) -> Operator:
    return Operator(database, tmp_path, channel_schemes="mailto,json", channel_private_hosts="127.0.0.1")


async def test_channels_are_added_listed_and_removed(operator: Operator, database: str) -> None:
    done = await operator.add("alice", f"mailto://ann:{SECRET}@example.com", "--severity", "critical")
    assert (done.code, done.out, done.error) == (0, "channel 1 of alice: mailto://***\n", "")
    done = await operator.add("alice", f"slack://{SECRET}/B/C", "--device", "truck-*", "--device", "van-1")
    assert (done.code, done.out) == (0, "channel 2 of alice: slack://***\n")
    assert "'slack' is not in IOT_CHANNEL_SCHEMES here" in done.error
    both = await asyncio.gather(operator.run("ls"), operator.add("*", f"json://x:{SECRET}@example.com/"))
    assert [one.code for one in both] == [0, 0]
    alice = [("alice", 1, "mailto://***", "critical", "*"), ("alice", 2, "slack://***", "info", "truck-*", "van-1")]
    assert await operator.listed() == [("*", 1, "json://***", "info", "*"), *alice]
    assert (await operator.run("rm", "alice", "1")).out == "removed channel 1 of alice\n"
    assert await operator.listed("--user", "alice") == [("alice", 1, *alice[1][2:])]
    assert (await operator.run("rm", "alice", "1")).code == 0
    connection = await asyncpg.connect(database)
    assert [row[0] for row in await connection.fetch("SELECT user_id FROM user_channels")] == ["*"]
    await connection.close()


async def test_what_is_wrong(operator: Operator, database: str) -> None:
    for user, url, words in (("a/b", "json://x", "is no user"), ("alice", SECRET, "give a URL of apprise")):
        done = await operator.add(user, url)
        assert (done.code, done.out, words in done.error) == (2, "", True)
    for command in ("rm", "test"):
        done = await operator.run(command, "alice", "1")
        assert (done.code, done.error.strip()) == (
            1,
            "iot-stream: alice has no channel 1, but 0: see iot-stream channels ls",
        )
    connection = await asyncpg.connect(database)
    entries = [{"url": f"json://{SECRET}"}] * 20
    sql = "INSERT INTO user_channels VALUES ('full', $1), ('wrong', $2)"
    await connection.execute(sql, json.dumps(entries), json.dumps([{"url": SECRET, "to": 1}]))
    done = await operator.add("full", "json://x")
    assert (done.code, "21 channels; a user has at most 20" in done.error) == (1, True)
    done = await operator.run("ls")
    assert (done.code, "user_channels of wrong: Object contains unknown field `to`" in done.error) == (1, True)
    assert await connection.fetchval("SELECT count(*) FROM user_channels") == 2
    await connection.close()


async def test_a_message_to_try_a_channel(operator: Operator, database: str, mail: MailServer, tmp_path: Path) -> None:
    to = f"mailto://127.0.0.1:{mail.port}?from=iot@example.com&to=ann@example.com"
    await operator.add("alice", to)
    done = await operator.run("test", "alice", "1")
    assert (done.code, done.out) == (0, "the service of channel 1 of alice has taken a message\n")
    assert mail.subjects == ["iot-stream: a message to try this channel"]
    mail.answers = ["451 try again"]
    done = await operator.run("test", "alice", "1")
    assert (done.code, "the mailto service did not take the message" in done.error) == (1, True)
    done = await Operator(database, tmp_path, channel_schemes="mailto").run("test", "alice", "1")
    assert (done.code, "is at the private address 127.0.0.1" in done.error) == (1, True)
    done = await Operator(database, tmp_path).run("test", "alice", "1")
    assert (done.code, "IOT_CHANNEL_SCHEMES is empty" in done.error) == (1, True)
