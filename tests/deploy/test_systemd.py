"""The systemd units: their commands and variables exist, they are confined, and systemd itself takes them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.cli.main import COMMANDS
from app.local.layout import DEFAULT_PORTS, SINKS, WAYS, sink_program
from app.runtime.ending.exit_codes import ExitCode
from app.settings import Settings
from tests.deploy.settings_named import refused, unknown
from tools.documents import ROOT

DIRECTORY = ROOT / "deploy" / "systemd"
UNITS = sorted(DIRECTORY.glob("*.service"))
FILES = sorted(DIRECTORY.glob("*.env"))
SETTINGS = Settings(_env_file=None)


def values(unit: Path, key: str) -> list[str]:
    """All values of a key, in order."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def variables(lines: list[str]) -> dict[str, str]:
    """NAME=value lines."""
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units(unit: Path) -> None:
    (start,) = values(unit, "ExecStart")
    assert start.split()[0].endswith("/bin/iot-stream")
    assert start.split()[1] in COMMANDS
    given = variables(values(unit, "Environment"))
    assert unknown(given) == set()
    assert values(unit, "DynamicUser") == ["yes"]
    assert values(unit, "ProtectSystem") == ["strict"]
    gateway = start.split()[1] in WAYS
    longest = SETTINGS.shutdown_timeout if gateway else SETTINGS.database_timeout  # of what comes after the first wait
    assert int(values(unit, "TimeoutStopSec")[0]) > SETTINGS.shutdown_timeout + longest
    loaded = {value.split(":")[0] for value in values(unit, "LoadCredential")}
    assert {value.removeprefix("%d/") for name, value in given.items() if name.endswith("_FILE")} == loaded
    documentation = Path(values(unit, "Documentation")[0].removeprefix("file:///opt/iot-stream/"))
    assert (ROOT / documentation).is_file()


@pytest.mark.parametrize("way", WAYS)
def test_a_gateway_is_encrypted_or_of_this_machine_alone(way: str) -> None:
    unit = DIRECTORY / f"iot-stream-{way}.service"
    given = variables(values(unit, "Environment"))
    host, certificate = given.get(f"IOT_{way.upper()}_HOST", "127.0.0.1"), f"IOT_{way.upper()}_CERTIFICATE_FILE"
    assert (host == "127.0.0.1") == (certificate not in given)
    assert "gateway.env" in values(unit, "EnvironmentFile")[1]
    if way == "grpc":
        (directory,) = values(unit, "RuntimeDirectory")
        assert Path(given["IOT_GRPC_SOCKET"]).parent == Path("/run") / directory, "systemd makes it, and removes it"
        assert values(unit, "Group") != []


@pytest.mark.parametrize("sink", SINKS)
def test_a_sink_is_told_where_it_writes_to(sink: str) -> None:
    unit = DIRECTORY / f"iot-stream-sink-{sink.replace('_', '-')}.service"
    assert values(unit, "ExecStart")[0].endswith(f"iot-stream sink {sink}")
    given = variables(values(unit, "Environment"))
    assert given["IOT_METRICS_PORT"] == str(DEFAULT_PORTS[sink_program(sink)])
    assert "sinks.env" in values(unit, "EnvironmentFile")[1]
    shared = variables((DIRECTORY / "sinks.env").read_text().splitlines())
    prefix = {"http_feed": "IOT_FEED_", "grpc": "IOT_GRPC_PUSH_"}.get(sink, f"IOT_{sink.upper()}_")
    assert [name for name in shared | given if name.startswith(prefix)]
    if sink == "parquet":
        (directory,) = values(unit, "StateDirectory")
        assert given["IOT_PARQUET_DIR"] == f"%S/{directory}", "systemd makes it for the user of the unit"


def test_a_worker_that_gave_up_is_not_started_again() -> None:
    (codes,) = values(DIRECTORY / "iot-stream-worker@.service", "RestartPreventExitStatus")
    assert str(ExitCode.DEAD_LETTERS.value) in codes.split()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_environment_files(file: Path) -> None:
    given = variables(file.read_text().splitlines())
    assert unknown(given) == set()
    assert refused(given) == []
    assert [name for name in given if "PASSWORD" in name] == []
    assert not re.search(r"://[^/@]*:[^/@]*@", file.read_text()), "a password in a URL"


def test_no_two_share_a_port() -> None:
    ports = [variables(values(unit, "Environment"))["IOT_METRICS_PORT"] for unit in UNITS]
    assert len({port.replace("%i", "0") for port in ports}) == len(UNITS) == 3 + len(WAYS) + len(SINKS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: no systemd")
def test_systemd_takes_them_and_finds_them_confined(tmp_path: Path) -> None:
    for unit in UNITS:
        copy = tmp_path / unit.name.replace("@.", "@0.")
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        copy.write_text(re.sub(r"^WorkingDirectory=.*$", "", text, flags=re.MULTILINE))
        for command in (["verify"], ["security", "--offline=true", "--threshold=20"]):
            done = subprocess.run(
                ["systemd-analyze", "--no-pager", *command, str(copy)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{unit.name}: {done.stdout[-300:]}{done.stderr}"
            assert command != ["verify"] or done.stderr == ""
