"""`iot-stream` as an operator runs the command: in its own process, with its own settings."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]


class Done(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        """The command's JSON output. Fails when the command's exit code is not 0."""
        assert self.code == 0, self.error
        return json.loads(self.out)


async def iot_stream(settings: Mapping[str, object], *words: str | Path, cwd: Path = ROOT) -> Done:
    """Run the command to its end; `settings` by field name, without the prefix IOT_."""
    environment = {f"IOT_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *map(str, words), cwd=cwd, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), error.decode())
