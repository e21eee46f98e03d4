"""How programs start, and how they do not: what is wrong with this machine's settings is one line, and no traceback."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from app.local.servers.common import free_port
from app.settings import Settings
from tests.servers import KafkaServer, MqttServer
from tests.workers import ROOT, Site
from tools.command import Done

SECRET = "hunter2-not-for-logs"  # not a secret
WORKER = ("-m", "faust", "-A", "app", "worker")
PROGRAMS = (
    *(("-m", "app", *words.split()) for words in (
        "worker", "bridge", "notifier", "topics list", "topics create", "db init", "db migrate", "db status",
        "schema check", "users list", "alerts list", "rules list", "rules backtest --user u", "doctor --json", "fleet",
    )),
    WORKER,
)  # fmt: skip


async def ended(environment: Mapping[str, object], *words: str) -> Done:
    """Run a program of this Python to its end; all it needs is away."""
    named = {"IOT_KAFKA_BROKER": "127.0.0.1:1", "IOT_MQTT_PORT": "1", "IOT_METRICS_PORT": "0", **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **{name: str(value) for name, value in named.items()}},
    )  # fmt: skip
    out, error = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), error.decode())


@pytest.mark.parametrize(("words", "log"), [*((words, "json") for words in PROGRAMS), (WORKER, "human")], ids=str)
async def test_a_password_that_is_not_encoded_is_in_no_words_of_any_program(
    words: tuple[str, ...], log: str, tmp_path: Path
) -> None:
    sign = "#/?@[]%"[len(" ".join(words)) % 7]  # each sign is tried on the settings in tests/unit
    done = await ended(
        {
            "IOT_DATABASE_URL": f"postgresql://iot:Zx9{sign}{SECRET}@127.0.0.1:1/iot",
            "IOT_LOG_FORMAT": log,
            "IOT_STATE_DIR": tmp_path / "state",
            "IOT_LOCAL_DIR": tmp_path,
        },
        *words,
    )
    assert done.code == 2, done
    assert SECRET not in done.out + done.error
    assert "Traceback" not in done.out + done.error
    assert "IOT_DATABASE_URL: percent-encode" in done.error


@pytest.mark.parametrize("words", [("-m", "app", "bridge"), ("-m", "app", "notifier"), WORKER], ids=" ".join)
async def test_a_port_that_is_taken_is_reported_in_a_line(words: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await ended({"IOT_METRICS_PORT": port, "IOT_STATE_DIR": tmp_path / "state"}, *words)
    assert done.code == 2, done
    lines = [line for line in done.error.splitlines() if line.startswith("iot-stream: ")]
    assert len(lines) == 1, done.error
    assert f"port {port} of 127.0.0.1: something listens there already; set IOT_METRICS_PORT" in lines[0]
    assert "Traceback" not in done.out + done.error


async def test_a_state_directory_that_cannot_be_is_reported_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = await ended({"IOT_STATE_DIR": tmp_path / "file"}, *WORKER)
    assert done.code == 2, done
    assert "iot-stream: IOT_STATE_DIR" in done.error
    assert "Traceback" not in done.out + done.error


@pytest.mark.parametrize("words", ["worker", "rules check", "rules backtest", "db init", "doctor", "users add"])
async def test_help_is_there_whatever_the_settings_are(words: str) -> None:
    done = await ended({"IOT_DATABASE_URL": f"postgresql://u:#{SECRET}@h/d"}, "-m", "app", *words.split(), "--help")
    assert done.code == 0, done
    assert "Usage: " in done.out
    assert SECRET not in done.out + done.error


async def test_variables_of_libpq_are_reported_in_a_line_too() -> None:
    done = await ended(
        {"IOT_DATABASE_URL": "postgresql://iot@127.0.0.1/iot", "PGPORT": SECRET}, "-m", "app", "db", "init"
    )
    assert done.code == 1, done
    assert "a variable of libpq (PGPORT and the like)" in done.error
    assert SECRET not in done.error
    assert "Traceback" not in done.error


async def test_a_worker_listens_at_its_metrics_port_alone_whatever_the_options_of_faust(
    kafka: KafkaServer,
    database: str,
    mosquitto: MqttServer,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default `faust worker` serves tables and routing on every address, port 6066; with -d, a Python console."""
    for name in ("FAUST_DEBUG", "WEB_ENABLED", "NODE_WEB_ENABLED", "APP_DEBUG"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("FAUST_WEB_PORT", str(free_port()))
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
    await site.prepare([])
    port = str(free_port())
    for flags in ((), ("--with-web", "--web-port", port, "--web-bind", "0.0.0.0")):
        with site.program("worker", f"worker{len(flags)}") as worker:
            worker.close()
            worker._command = [sys.executable, *WORKER, *flags]
            worker.start()
            await worker.ready()
            listening = [
                one.laddr for one in psutil.Process(worker.pid).net_connections("inet") if one.status == "LISTEN"
            ]
            metrics = worker.events("worker_starting")[-1]["metrics_port"]
            assert [(one.ip, one.port) for one in listening] == [("127.0.0.1", metrics)]
            assert worker.state.stat().st_mode & 0o777 == 0o700
            assert (worker.state / "v1").stat().st_mode & 0o777 == 0o700
            worker.stop()


def test_what_holds_a_password_does_not_show_it() -> None:
    from app.cli.programs.notifier import account
    from app.gateways.mqtt.session import Login

    settings = Settings(mqtt_username="u", mqtt_password=SECRET, database_url=f"postgresql://u:{SECRET}@h/d")
    login = Login("id", "u", SECRET, (), 1, 1, 1)
    for one in (settings, account(settings), login):
        assert SECRET not in repr(one)
        assert SECRET not in str(one)
