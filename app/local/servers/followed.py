"""A command that takes long: run to its end, each line of its output handed on as it comes."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence


def followed(
    command: Sequence[str], seen: Callable[[str], None], env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `command`, and call `seen` with each line, without its end; `env` is added to ours. Its output, errors
    among it, is in `stdout`. Raises OSError when the command cannot be executed.
    """
    lines = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env=os.environ | dict(env or {}),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            seen(line.rstrip())
    return subprocess.CompletedProcess(command, process.returncode, "".join(lines), "")
