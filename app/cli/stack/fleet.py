"""`iot-stream fleet`: the simulated devices of the local stack."""

import asyncio
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import Directory, say
from app.cli.stack.fleet_outlets import outlet
from app.errors import PermanentError
from app.local.fleet.devices import Fleet
from app.local.fleet.gateway_fleet import GatewayFleet, Outlet
from app.local.fleet.planned_silence import devices_send
from app.local.layout import Layout, default_root, parse_env
from app.local.servers.mosquitto import Mosquitto
from app.runtime.tracing.start import STOP_SECONDS, start_tracing
from app.runtime.tracing.tracing import Tracing
from app.settings import Settings, load

PERIOD = 10.0  # seconds between two lines with counts


class Via(Enum):
    """How the simulated devices send."""

    MQTT = "mqtt"
    HTTP = "http"
    TCP = "tcp"
    GRPC = "grpc"
    QUIC = "quic"


def fleet(
    devices: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="Messages a second of each.")] = 5.0,
    trace_ratio: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share that starts a trace; IOT_TRACE_RATIO by default.")
    ] = None,
    via: Annotated[Via, typer.Option(help="The way in: MQTT, or a gateway of the local stack.")] = Via.MQTT,
    directory: Directory = None,
) -> None:
    """Send simulated telemetry until SIGTERM or Ctrl-C: some devices cross thresholds, one message in 500 is broken.

    Uses the accounts of the local stack, which has to run (`iot-stream up --no-fleet`; for --via http also `--ingest
    http`). Over MQTT each device has a connection of its own, so that one fleet of a stack alone can send; with an
    address in OTEL_EXPORTER_OTLP_ENDPOINT a share of the messages starts a trace. Over a gateway readings go in
    batches, each repeated until its answer. Prints how many were sent and acknowledged at the end, and on a terminal
    every 10 s.

    Examples: iot-stream fleet --devices 50 --rate 20

    iot-stream fleet --devices 500 --rate 10 --via quic
    """
    layout = Layout(directory or default_root())
    env = parse_env(layout.env.read_text()) if layout.env.exists() else {}
    os.environ |= env | os.environ
    settings, stop = load(), threading.Event()
    if not (layout.root / "mosquitto" / "passwords").exists():
        raise PermanentError(f"no local stack in {layout.root}: start one with `iot-stream up --no-fleet`")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    broker, memory = Mosquitto(layout.root / "mosquitto", settings.mqtt_port), layout.root / "fleet.json"
    if via is not Via.MQTT:
        with devices_send(settings, layout.fleets_lock):
            asyncio.run(send(lambda: outlet(via.value, env, broker), devices, rate, memory, stop))
        return
    if trace_ratio is not None:
        settings = settings.model_copy(update={"trace_ratio": trace_ratio})
    with alone(layout), devices_send(settings, layout.fleets_lock):
        publish(settings, stop, lambda tracing: Fleet(broker, devices, rate, memory, tracing))


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Have the client ids of the simulated devices for the length of the block: of two connections with the same id a
    broker closes the older one. Raises PermanentError while another process of this stack has them.
    """
    with layout.fleet_lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            cure = "start the stack by `iot-stream up --no-fleet`, or send by a gateway: --via http"
            raise PermanentError(f"the simulated devices of {layout.root} send over MQTT already: {cure}") from None
        yield


def publish(settings: Settings, stop: threading.Event, made: Callable[[Tracing], Fleet]) -> None:
    """Send over MQTT by the devices that `made` gives, until stopped, and say how that went. Raises TransientError when
    no broker answers.
    """
    tracing = start_tracing("fleet", settings)
    sending = made(tracing)
    try:
        with reported(lambda: f"{sending.sent:,} readings sent, {sending.acknowledged:,} acknowledged by the broker"):
            sending.run(stop)
    finally:
        tracing.stop(STOP_SECONDS)


async def send(made: Callable[[], Outlet], devices: int, rate: float, memory: Path, stopped: threading.Event) -> None:
    """Send by the gateway of the outlet that `made` gives, until SIGTERM or SIGINT, and say how that went. `rate`:
    readings a second of each device; `memory`: the file of sequence ids; `stopped`: set by a signal that came before.
    Raises PermanentError when the gateway will never take what is sent.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if stopped.is_set():
        return
    sending = GatewayFleet(made(), devices, rate, memory)

    def counts() -> str:
        last = f"; the last failure: {sending.problem}" if sending.problem else ""
        return f"{sending.answered:,} readings answered, {sending.refused:,} refused{last}"

    with reported(counts):
        await sending.run(stop)


@contextmanager
def reported(counts: Callable[[], str]) -> Iterator[None]:
    """Say the counts at the end, and on a terminal every PERIOD seconds meanwhile."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(PERIOD):
            say(counts())

    reporting = threading.Thread(target=go_on, name="counts", daemon=True)
    if sys.stderr.isatty():
        reporting.start()
    try:
        yield
    finally:
        ended.set()
        say(counts())
