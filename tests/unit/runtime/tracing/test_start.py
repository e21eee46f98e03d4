"""How tracing begins: nothing is imported while it is off; without the extra the message says what to install."""

import re
import subprocess
import sys

import pytest
import structlog

from app.errors import SettingsError
from app.runtime.tracing.start import INSTALL, start_tracing
from app.runtime.tracing.tracing import NO_TRACING
from app.settings import Settings

ON = "{'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:9'}"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; from app.settings import Settings; from app.runtime.tracing.start import start_tracing;"
        "import app.worker.build, app.cli.programs.bridge, app.cli.programs.notifier, app.cli.stack.fleet;"
        "start_tracing('worker', Settings(), {});"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'grpc'))])"
    )
    assert run(code).strip() == "[]"


def test_off_is_the_tracing_that_does_nothing() -> None:
    assert start_tracing("worker", Settings(), {}) is NO_TRACING


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter.otlp.proto.grpc"])
def test_without_the_extra_the_error_says_what_to_install(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from app.settings import Settings; from app.runtime.tracing.start import start_tracing\n"
        "from app.errors import SettingsError\n"
        f"try: start_tracing('worker', Settings(), {ON})\n"
        "except SettingsError as error: print(error)"
    )
    assert INSTALL in run(code)


def test_a_wrong_variable_ends_the_start() -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        start_tracing("worker", Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector"})


def test_a_value_that_only_the_exporter_reads_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "lzma")
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_COMPRESSION"):
        start_tracing("worker", Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"})


def test_what_an_exporter_only_warns_of_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "no header")
    with structlog.testing.capture_logs() as lines:
        start_tracing("worker", Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}).stop(1)
    assert [line["event"] for line in lines] == ["tracing_configuration"]
    assert "no header" not in str(lines)  # the header may be a secret


def test_a_program_ends_in_time_though_nobody_takes_its_spans() -> None:
    """The exporter for gRPC tries for 10 s, and has threads of its own."""
    code = (
        "import time; from app.settings import Settings; from app.runtime.tracing.start import start_tracing\n"
        "import os; os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = 'http://127.0.0.1:9'\n"
        "tracing = start_tracing('worker', Settings())\n"
        "for _ in range(3000): tracing.span('bridge').end()\n"
        "time.sleep(1.5); begin = time.monotonic(); tracing.stop(1.0)\n"
        # In one write, so that it is a line of its own beside what the log of another thread writes.
        "import sys; sys.stdout.write(f'\\nended in {time.monotonic() - begin} s\\n')"
    )
    ended = re.search(r"^ended in (\S+) s$", said := run(code), re.MULTILINE)
    assert ended, said
    assert float(ended[1]) < 2.5


def test_the_version_and_the_fleet_are_on_every_span() -> None:
    code = (
        "from app.settings import Settings; from app.runtime.tracing.start import start_tracing\n"
        f"t = start_tracing('w', Settings(app='fleet1'), {ON})\n"
        "print(dict(t.resource.attributes)); t.stop(0.3)"
    )
    found = run(code)
    assert "'service.name': 'iot-stream-w'" in found
    assert "'service.namespace': 'fleet1'" in found
    assert "'service.version': '" in found
