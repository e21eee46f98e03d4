"""Nobody sends a line for an account that he is not, and whoever tries is answered why he may not."""

import asyncio
import json
from typing import Any

import pytest

from app.ports import Account, Refusal
from tests.contract.gateways.tcp.serving import LOGIN, event, served
from tests.waiting import until


@pytest.mark.parametrize(
    "login",
    [
        {"user": "alice", "password": "secret"},
        {"user": "alice", "token": "token-of-alice"},
        {"token": "token-of-alice"},
    ],
)
async def test_credentials_of_each_kind(login: dict[str, str]) -> None:
    async with served() as tcp:
        client = await tcp.connect()
        client.send(json.dumps(login).encode() + b"\r\n", event(1))
        assert await client.said() == {"ok": True}
        assert await client.said() == {"acked": 1}
        assert [one.key for one in tcp.writer.records] == [b"alice/d1"]
        assert tcp.accounts.seen[0][-1] == "127.0.0.1"


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        ({"user": "alice", "password": "wrong-secret"}, "bad_credentials"),
        ({"token": "nobodys-secret"}, "bad_credentials"),
        ({"user": "alice", "token": "token-of-bob"}, "bad_credentials"),  # a good one, of another
        ({"user": "alice"}, "login_expected"),
        ({"password": "secret"}, "login_expected"),
        ({"user": "alice", "token": "t", "password": "secret"}, "login_expected"),
        ({"user": "alice", "password": "secret", "sequence_id": 1}, "login_expected"),
        ({"user": ["alice"], "password": "secret"}, "login_expected"),
    ],
)
async def test_other_credentials_end_the_connection(login: dict[str, Any], reason: str) -> None:
    async with served() as tcp:
        client = await tcp.connect()
        client.send(json.dumps(login).encode() + b"\n", *[event(number) for number in range(1000)])
        (answer,) = await client.rest()
        assert (answer["ok"], answer["reason"]) == (False, reason)
        assert "secret" not in json.dumps(answer).replace('\\"password\\"', "").replace("...", "")
        assert tcp.writer.records == []


@pytest.mark.parametrize(
    "first", [event(1), b"GET / HTTP/1.1\r\n", b"\n", b"\x16\x03\x01\x02\x00\n", b"[" * 5000 + b"\n"]
)
async def test_whoever_says_nothing_of_himself_is_nobody(first: bytes) -> None:
    async with served() as tcp:
        client = await tcp.connect()
        client.send(first, event(2))
        (answer,) = await client.rest()
        assert answer["reason"] == "login_expected"
        assert tcp.writer.records == []


async def test_a_login_that_never_ends_is_none() -> None:
    async with served() as tcp:
        client = await tcp.connect()
        client.send(b'{"user":"' + b"a" * 200_000)
        assert (await client.rest())[0]["reason"] == "login_expected"
        client = await tcp.connect()
        client.send(b'{"token":"token-of-alice"}')  # and no line feed
        client.writer.write_eof()
        assert (await client.rest())[0]["reason"] == "login_expected"


@pytest.mark.parametrize("refusal", [Refusal.SLOWED_DOWN, Refusal.UNAVAILABLE])
async def test_accounts_that_do_not_answer(refusal: Refusal) -> None:
    async with served() as tcp:
        tcp.accounts.answer = refusal
        client = await tcp.connect()
        client.send(LOGIN)
        (answer,) = await client.rest()
        assert answer["reason"] == refusal.value
        assert "again" in answer["error"]


async def test_accounts_that_never_answer_are_not_awaited_for_ever() -> None:
    async with served(gateway_header_seconds=0.2) as tcp:
        tcp.accounts.may_answer.clear()
        client = await tcp.connect()
        client.send(LOGIN)
        assert (await client.rest())[0]["reason"] == "unavailable"


async def test_nothing_is_read_while_the_accounts_are_asked() -> None:
    async with served() as tcp:
        tcp.accounts.may_answer.clear()
        client = await tcp.connect()
        lines = [event(number, pad="x" * 4000) for number in range(1, 5001)]
        client.send(LOGIN, *lines)
        await tcp.accounts.asked_for.wait()
        await asyncio.sleep(0.05)
        assert client.writer.transport.get_write_buffer_size() > 0  # the line waits at the sender
        assert await client.silent()
        tcp.accounts.may_answer.set()
        assert await client.said() == {"ok": True}
        await client.until_acked(len(lines))
        assert len(tcp.writer.records) == len(lines)


async def test_login_and_lines_and_an_end_in_one_go() -> None:
    async with served() as tcp:
        client = await tcp.connect()
        client.send(LOGIN, event(1), event(2))
        client.writer.write_eof()
        answers = await client.rest()
        assert answers[0] == {"ok": True}
        assert answers[-1] == {"acked": 2}


async def test_whoever_needs_no_credentials_sends_at_once() -> None:
    async with served() as tcp:
        tcp.accounts.nobody = Account("lab")
        client = await tcp.connect()
        client.send(event(1), event(2))
        assert await client.until_acked(2)
        client = await tcp.connect()
        client.send(LOGIN, event(3))
        assert await client.said() == {"ok": True}
        assert await client.said() == {"acked": 1}
        client = await tcp.connect()
        client.send(b'{"device_id":"d1","pad":"' + b"x" * 20_000)  # longer than any login, and in two pieces
        await asyncio.sleep(0.05)
        client.send(b'","sequence_id":4,"timestamp":1795226400}\n')
        assert await client.said() == {"acked": 1}
        assert [one.key for one in tcp.writer.records] == [b"lab/d1", b"lab/d1", b"alice/d1", b"lab/d1"]


async def test_no_login_comes_in_time() -> None:
    async with served(gateway_header_seconds=0.2) as tcp:
        silent, slow = await tcp.connect(), await tcp.connect()
        slow.send(b'{"user":')
        for client in (silent, slow):
            assert (await client.rest())[0]["reason"] == "slow_login"


async def test_a_probe_that_says_nothing_is_sent_nothing() -> None:
    async with served() as tcp:
        client = await tcp.connect()
        client.writer.write_eof()
        assert await client.rest() == []


@pytest.mark.parametrize("path", [b"/", b"/" + b"x" * 20_000, b"http://127.0.0.1:8089/"])
async def test_a_web_page_sends_nothing_in_the_name_of_who_needs_no_credentials(path: bytes) -> None:
    async with served() as tcp:
        tcp.accounts.nobody = Account("lab")
        client = await tcp.connect()
        client.send(b"POST " + path + b" HTTP/1.1\r\nHost: 127.0.0.1:8089\r\nOrigin: https://example.com\r\n\r\n")
        client.send(event(1))
        (last,) = await client.rest()
        assert (last["ok"], last["reason"]) == (False, "login_expected")
        assert tcp.writer.records == []


async def test_one_account_leaves_connections_for_others() -> None:
    async with served(gateway_account_connections=2) as tcp:
        first, _ = [await tcp.logged_in() for _ in range(2)]
        third = await tcp.connect()
        third.send(LOGIN)
        assert (await third.rest())[0]["reason"] == "too_many_connections"
        await tcp.logged_in("bob")
        first.break_off()
        await until(lambda: tcp.gateway._parts.seats.take("alice"))
        tcp.gateway._parts.seats.free("alice")
        await tcp.logged_in()


async def test_an_account_that_is_locked_out_is_out() -> None:
    async with served(auth_cache_seconds=0.2) as tcp:
        client = await tcp.logged_in()
        await until(lambda: len(tcp.accounts.seen) > 1)  # asked again, and still good
        tcp.accounts.answer = Refusal.UNAVAILABLE
        asked = len(tcp.accounts.seen)
        await until(lambda: len(tcp.accounts.seen) > asked)
        client.send(event(1))
        assert await client.said() == {"acked": 1}  # an outage locks nobody out
        tcp.accounts.answer = Account("alice", "d1")
        asked = len(tcp.accounts.seen)
        await until(lambda: len(tcp.accounts.seen) > asked)
        client.send(event(2, "d2"))
        assert (await client.said())["reason"] == "not_allowed"  # the account is bound to one device now
        assert await client.said() == {"acked": 2}
        tcp.accounts.answer = Refusal.BAD_CREDENTIALS
        assert (await client.rest())[0]["reason"] == "bad_credentials"


async def test_a_connection_asks_sooner_than_the_table_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it might ask just before what is remembered ends, and go on for as long once more."""
    monkeypatch.setattr("app.gateways.login.counted.AGAIN_SECONDS", 0.1)
    async with served() as tcp:
        client = await tcp.logged_in()
        tcp.accounts.answer = Refusal.BAD_CREDENTIALS
        assert (await client.rest())[0]["reason"] == "bad_credentials"


async def test_a_second_login_is_no_telemetry_and_its_secret_goes_nowhere() -> None:
    async with served(gateway_dead_letter_rejected=True) as tcp:
        client = await tcp.logged_in()
        client.send(b'{"user":"alice","password":"hush"}\n', b'{"x":1}\n')
        first, second, _ = await client.until_acked(2)
        assert (first["line"], first["reason"]) == (1, "login_again")
        assert second["line"] == 2
        assert len(tcp.writer.dead) == 1
        assert b"hush" not in tcp.writer.dead[0].value
