"""Telegraf as its users run it: a file of Influx lines in, one output, and what the program wrote to its log."""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.command import ROOT

AGENT = """
[agent]
  interval = "1s"
  flush_interval = "1s"
  omit_hostname = true

[[inputs.file]]
  files = ["{lines}"]
  data_format = "influx"

[[outputs.{output}]]
"""


def telegraf() -> str:
    """The program, where `make tools` has built it or the machine has it."""
    where = subprocess.run([ROOT / "scripts" / "deploy-tools", "--where"], capture_output=True, text=True, check=True)
    built = Path(where.stdout.strip()) / "telegraf"
    found = str(built) if built.exists() else shutil.which("telegraf")
    if found is None:
        pytest.skip("NOT TRIED: there is no Telegraf here (make tools builds it, with Go)")
    return found


async def send_once(program: str, folder: Path, lines: Sequence[str], output: str, options: str) -> None:
    """Send Influx lines by Telegraf's output of that name, whose settings are `options`; files go into `folder`.

    Fails when Telegraf does not end well within a minute, or logs an error of an output.
    """
    source, config = folder / "lines", folder / "telegraf.conf"
    source.write_text("\n".join(lines))
    config.write_text(AGENT.format(lines=source, output=output) + options)
    process = await asyncio.create_subprocess_exec(
        program, "--config", config, "--once", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    said = out.decode()
    assert process.returncode == 0, said
    assert " E! " not in said, said
