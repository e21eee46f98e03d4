"""The simulated devices of a local stack are stopped, and the stack is started without them: no alert says so."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.local.fleet.planned_silence import NOTE
from app.local.layout import parse_env
from tests.integration.test_stack_up import Stack
from tests.workers import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

OWN = {"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00Z", "note": "mine"}


@pytest.fixture
async def stack(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    for name, value in (("AFTER", "2"), ("GRACE", "3"), ("POLL", "0.3")):
        monkeypatch.setenv(f"IOT_OFFLINE_{name}", value)
    stack = Stack(server_dir / "stack")
    yield stack
    await asyncio.to_thread(stack.run, "down")


async def ask(stack: Stack, sql: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(parse_env((stack.directory / "stack.env").read_text())["DATABASE_URL"])
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()


async def windows(stack: Stack) -> list[str]:
    rows = await ask(stack, "SELECT maintenance::text FROM user_configs WHERE user_id LIKE 'fleet-%'")
    return sorted(window["note"] for (text,) in rows for window in json.loads(text))


async def test_no_alarm_when_the_demo_is_stopped(stack: Stack) -> None:
    command = [sys.executable, "-m", "app", "up", "--detach", "--dir", str(stack.directory)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr

    async def online() -> bool:
        found = await ask(stack, "SELECT FROM device_status WHERE user_id LIKE 'fleet-%' AND status = 'online'")
        return len(found) == 20

    await until(online, 60.0, lambda: "20 devices online")
    assert await windows(stack) == []
    await ask(
        stack,
        "UPDATE user_configs SET maintenance = jsonb_build_array($1::jsonb) WHERE user_id = 'fleet-1'",
        json.dumps(OWN),
    )
    assert (await asyncio.to_thread(stack.run, "down")).returncode == 0

    await asyncio.to_thread(stack.up)
    assert await windows(stack) == ["mine", *[NOTE] * 4]
    stack.publish("alice", 1)

    async def reported() -> bool:
        return bool(await ask(stack, "SELECT FROM active_alerts WHERE user_id = 'alice' AND rule_id = '$offline'"))

    await until(reported, 60.0, lambda: "alice is reported")  # so silence is looked for, and nothing holds it back
    said = await ask(stack, "SELECT user_id, rule_id FROM alert_history WHERE rule_id LIKE '$%' AND user_id <> 'alice'")
    assert said == []
