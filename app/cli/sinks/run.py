"""Runs sinks: settings in; a process that writes to their destinations until SIGTERM.

The stop, within IOT_SHUTDOWN_TIMEOUT: reading ends, the buffers are flushed once, the progress is committed. Records
that a destination did not take by then are read again at the next start.
"""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence

import structlog
import uvloop

from app.errors import DeadLetterLimitError
from app.ops import certificates, logs
from app.ops.about import About
from app.ops.health import HealthServer
from app.runtime import allocator
from app.runtime.ending.exit_codes import ExitCode
from app.runtime.ending.stop_deadline import StopDeadline
from app.settings import Settings
from app.sinks.router import SinkInstance, build_sink
from app.sinks.running.clients import sink_kafka
from app.sinks.running.runner import SinkRunner

log = structlog.get_logger()

CLOSE_SECONDS = 1.5  # for closing connections, after which the process is ended


def run(settings: Settings, sinks: Sequence[SinkInstance]) -> None:
    """Run these sinks, at least one, until SIGTERM or SIGINT; blocks meanwhile.

    Raises SettingsError when a sink cannot run with its settings, MachineError when an address is in use,
    PermanentError when a package is missing or Kafka refuses a topic. Exits with code 3 when a destination refuses too
    many records.
    """
    logs.configure(settings)
    try:
        uvloop.run(_main(settings, sinks))
    except DeadLetterLimitError as error:
        log.error("too_many_dead_letters", error=str(error), exit_code=int(ExitCode.DEAD_LETTERS))
        raise SystemExit(ExitCode.DEAD_LETTERS) from None


async def _main(settings: Settings, sinks: Sequence[SinkInstance]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runners = [
        SinkRunner(one.settings, build_sink(one), stop, sink_kafka(one.settings, one.name, stop)) for one in sinks
    ]
    health = _health(settings, sinks, runners)
    certificates.report(settings)
    await health.start()
    tasks = [asyncio.create_task(runner.run(), name=runner.name) for runner in runners]
    stopping = asyncio.create_task(stop.wait())
    allocator.look_for_cycles_seldom()
    names = [runner.name for runner in runners]
    log.info("sinks_started", sinks=names, metrics_port=health.port, topic=settings.kafka_topic)
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        StopDeadline(settings.shutdown_timeout + CLOSE_SECONDS).begin()
        began = time.monotonic()
        stop.set()
        await asyncio.wait(tasks)
        await health.stop()
        log.info("sinks_stopped", seconds=round(time.monotonic() - began, 2))
    _raise(tasks)


def _raise(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Raise the error that ended a sink."""
    for task in tasks:
        task.result()


def _health(settings: Settings, sinks: Sequence[SinkInstance], runners: Sequence[SinkRunner]) -> HealthServer:
    async def live() -> Mapping[str, bool]:
        return {"running": True}

    async def ready() -> Mapping[str, bool]:
        checks = {"kafka": all(runner.consumer.answers for runner in runners)}
        return checks | {f"sink:{runner.name}": runner.available for runner in runners}

    def queue_depth() -> int:
        return sum(runner.held for runner in runners)

    about = About("sink", settings.app, ready, queue_depth, runners[0].books.flushes)
    return HealthServer(settings.metrics_host, sinks[0].metrics_port, live, ready, about=about)
