"""Waiting in tests for something to become true, and for sockets to close."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Return once `true()` is; TimeoutError after that many seconds."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for knows no event
            await asyncio.sleep(0.002)


def open_sockets() -> int:
    """How many sockets this process has open."""
    names = []
    for number in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the directory itself
            names.append(str(number.readlink()))
    return sum(name.startswith("socket:") for name in names)
