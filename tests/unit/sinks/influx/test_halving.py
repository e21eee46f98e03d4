"""One bad line causes no other line to be refused, and is found with few requests."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sinks.influx.conflicts import HOUR
from app.sinks.influx.halving import Halving
from app.sinks.port import SinkUnavailable

CONFLICT = (
    'partial write: field type conflict: input field "{}" on measurement "m" is type {}, already exists as type {}'
)


class PickyServer:
    """Takes a body if it takes each of the lines, as InfluxDB does; `bad` returns why a line is not taken."""

    def __init__(self, bad: Callable[[str], str | None]) -> None:
        self._bad = bad
        self.posts, self.checks, self.most = 0, 0, 1_000_000
        self.taken: list[str] = []

    async def post(self, body: bytes) -> str | None:
        self.posts += 1
        if self.posts > self.most:
            raise SinkUnavailable("gone")
        lines = body.decode().splitlines()
        why = next((said for line in lines if (said := self._bad(line)) is not None), None)
        if why is None:
            self.taken += lines
        return why

    async def check(self) -> None:
        self.checks += 1


def parse(line: str) -> str | None:
    return f"unable to parse '{line}'" if "bad" in line else None


def mode(line: str) -> str | None:
    """A server that stores `mode` as a float."""
    return CONFLICT.format("mode", "string", "float") if ' mode="' in line else None


def halving(server: PickyServer) -> Halving:
    return Halving(server.post, server.check)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
async def test_the_bad_lines_are_found_and_all_others_taken(bad: Sequence[bool]) -> None:
    server = PickyServer(parse)
    lines = [f"m x={number}{'bad' if is_bad else ''}" for number, is_bad in enumerate(bad)]
    refused = dict(await halving(server).write(lines))
    assert sorted(refused) == [number for number, is_bad in enumerate(bad) if is_bad]
    assert all(lines[number] in why for number, why in refused.items())
    assert set(server.taken) == {line for line, is_bad in zip(lines, bad, strict=True) if not is_bad}


async def test_one_bad_line_of_many_costs_few_requests() -> None:
    server = PickyServer(parse)
    refused = await halving(server).write([f"m x={'bad' if number == 3777 else 1} {number}" for number in range(5000)])
    assert [number for number, _ in refused] == [3777]
    assert server.posts < 30
    assert server.checks == 1


async def test_good_lines_are_one_request_in_their_order() -> None:
    server = PickyServer(parse)
    lines = [f"m x={number}" for number in range(100)]
    assert await halving(server).write(lines) == []
    assert (server.posts, server.checks, server.taken) == (1, 0, lines)


async def test_lines_of_another_type_are_asked_about_together() -> None:
    """A sender with a text in the numeric field `mode` causes two more requests per batch, not thousands."""
    server = PickyServer(mode)
    lines = [f'm,d={number} mode="on" 1' if number % 2 else f"m,d={number} mode=1 1" for number in range(1000)]
    one = halving(server)
    for expected in (4, 2):
        server.posts = 0
        refused = dict(await one.write(lines))
        assert sorted(refused) == list(range(1, 1000, 2))
        assert 'field "mode"' in refused[1]
        assert server.posts <= expected
    assert set(server.taken) == set(lines[::2])


async def test_lines_of_another_shard_are_judged_apart() -> None:
    """A server stores a type per field and shard; here only the first hour's type is a float."""
    server = PickyServer(lambda line: mode(line) if int(line.split()[-1]) < HOUR else None)
    lines = [f'm,d={number} mode="on" {number * HOUR // 4}' for number in range(40)]
    one = halving(server)
    for _ in range(2):
        assert sorted(index for index, _ in await one.write(lines)) == [0, 1, 2, 3]


async def test_lines_that_are_too_old_cost_few_requests() -> None:
    """A device sends the readings of a month, and the server's retention is a week."""

    class Forgetful(PickyServer):
        async def post(self, body: bytes) -> str | None:
            self.posts += 1
            lines = body.decode().splitlines()
            old = [line for line in lines if int(line.split()[-1]) < 500]
            self.taken += [line for line in lines if line not in old]  # as InfluxDB does
            return f"partial write: points beyond retention policy dropped={len(old)}" if old else None

    server = Forgetful(parse)
    lines = [f"m x={number} {number * 7919 % 1000}" for number in range(1000)]
    refused = dict(await halving(server).write(lines))
    assert sorted(refused) == [number for number in range(1000) if number * 7919 % 1000 < 500]
    assert server.posts < 50
    assert set(server.taken) == {line for number, line in enumerate(lines) if number not in refused}


async def test_a_type_that_is_taken_again_is_no_conflict_any_more() -> None:
    taken: list[str] = []
    server = PickyServer(lambda line: None if taken else mode(line))
    one, lines = halving(server), ['m mode="on" 1', "m mode=1 1"]
    assert [number for number, _ in await one.write(lines)] == [0]
    taken.append("yes")
    assert await one.write(lines) == []
    server.posts = 0
    assert await one.write(lines) == []
    assert server.posts == 1


async def test_a_text_that_contains_such_a_field_is_no_suspect() -> None:
    server = PickyServer(lambda line: mode(line) if line.startswith('m mode="') else None)
    lines = ['m mode="on" 1', 'm text="see mode=\\"on\\", mode=1",x=1 1']
    one = halving(server)
    for _ in range(2):
        assert [number for number, _ in await one.write(lines)] == [0]


async def test_a_server_that_becomes_unavailable_halfway_is_reported() -> None:
    server = PickyServer(parse)
    server.most = 3
    with pytest.raises(SinkUnavailable):
        await halving(server).write([f"m x={number}bad" for number in range(10)])


async def test_a_server_that_refuses_all_lines_causes_no_dead_letters() -> None:
    async def check() -> None:
        raise SinkUnavailable("it refuses even to write nothing")

    server = PickyServer(lambda line: "no such organisation")
    with pytest.raises(SinkUnavailable):
        await Halving(server.post, check).write(["m x=1", "m x=2"])
    assert server.posts == 1
