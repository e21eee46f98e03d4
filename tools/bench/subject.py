"""A worker process with its memory and its metrics, for benchmarks."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import psutil
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings


class Subject:
    """A worker process, measured from outside."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self._port = process, port

    def rss(self) -> float:
        """Resident memory, MB. Raises ChildProcessError when the worker has ended."""
        if self.process.poll() is not None:
            raise ChildProcessError(f"the worker ended with {self.process.returncode}")
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6

    def cpu(self) -> float:
        """CPU seconds since the worker's start. Raises psutil.NoSuchProcess when the worker has ended and is gone."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def metrics(self) -> dict[str, float]:
        """Values of the metrics without labels; empty while the worker does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        families = text_string_to_metric_families(text)
        return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}

    def stored(self) -> float:
        """The number of rows stored so far."""
        return self.metrics().get("iot_rows_stored_total", 0.0)


@contextmanager
def worker(settings: Settings, home: str, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[Subject]:
    """`faust -A app worker` with these settings; the log is printed when the worker fails.

    `home` is the directory of its state and its log; `more` are further variables.
    """
    environment = {
        **os.environ,
        "IOT_APP": settings.app,
        "IOT_KAFKA_BROKER": settings.kafka_broker,
        "IOT_KAFKA_TOPIC": settings.kafka_topic,
        "IOT_DATABASE_URL": settings.database_url.get_secret_value(),
        "IOT_METRICS_PORT": str(settings.metrics_port),
        "IOT_STATE_DIR": f"{home}/state",
        **more,
    }
    faust = Path(sys.executable).with_name("faust")
    with open(f"{home}/worker.log", "w") as log:
        command = [str(faust), "-A", "app", "worker", "-l", "warn", "--without-web"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield Subject(process, settings.metrics_port)
        except (TimeoutError, ChildProcessError):
            print(Path(log.name).read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(30)
