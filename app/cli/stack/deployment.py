"""Where a deployment's processes are: options, settings or the local stack in; what `top` looks at out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import typer

from app.local.layout import Layout, default_root, parse_env, sink_program
from app.local.session import supervisor_pid
from app.runtime.addresses import web
from app.settings import Settings, load
from app.settings.process import worker_url

LOOPBACK = "127.0.0.1"
PROGRAMS = ("worker", "bridge", "notifier")  # of the local stack, in the order of the screen


class Places(NamedTuple):
    """Addresses of processes, and settings with the servers that were named."""

    urls: list[str]
    kafka: Settings | None
    database: Settings | None


def places(metrics: Sequence[str], directory: Path | None) -> Places:
    """The addresses of --metrics, else of the local stack that runs in `directory` (None: the default), else of the
    settings. Puts the names of a local stack's stack.env into the environment. Raises SettingsError, BadParameter.
    """
    urls = [address(text) for text in metrics]
    if not urls:
        urls = _of_local_stack(Layout(directory or default_root()))
    settings = load()
    if not urls and (own := worker_url(settings)):
        urls = [own]
    named = settings.model_fields_set
    return Places(urls, settings if "kafka_broker" in named else None, settings if "database_url" in named else None)


def address(text: str) -> str:
    """The address of a process, with the scheme that people leave out and without /metrics. Raises BadParameter."""
    try:
        return web(text if "://" in text else f"http://{text}").rstrip("/").removesuffix("/metrics")
    except ValueError:
        raise typer.BadParameter("give each process's as http://host:port", param_hint="--metrics") from None


def _of_local_stack(layout: Layout) -> list[str]:
    """Its programs; its servers become settings. Empty when no stack runs, or other servers than its own are named."""
    if supervisor_pid(layout) is None or not layout.env.exists():
        return []
    own = parse_env(layout.env.read_text())
    if os.environ.get("IOT_KAFKA_BROKER", own["KAFKA_BROKER"]) != own["KAFKA_BROKER"]:
        return []
    os.environ |= {name: value for name, value in own.items() if name.startswith("IOT_")} | os.environ
    return local_urls(layout)


def local_more() -> list[str]:
    """Addresses of the programs of the local stack beside its worker, without /metrics, when it runs here and the
    environment names its Kafka; else none.
    """
    layout = Layout(default_root())
    if supervisor_pid(layout) is None or not layout.env.exists():
        return []
    broker = parse_env(layout.env.read_text())["KAFKA_BROKER"]
    if os.environ.get("IOT_KAFKA_BROKER") != broker:
        return []
    return _urls(layout, (*PROGRAMS[1:], *_more(layout)))


def local_urls(layout: Layout) -> list[str]:
    """Addresses of the programs of a stack of this machine, without /metrics: PROGRAMS, then the gateways and the
    sinks.
    """
    return _urls(layout, (*PROGRAMS, *_more(layout)))


def _more(layout: Layout) -> tuple[str, ...]:
    return *layout.ways(), *map(sink_program, layout.sinks())


def _urls(layout: Layout, programs: Sequence[str]) -> list[str]:
    ports = layout.remembered_ports()
    return [f"http://{LOOPBACK}:{ports[name]}" for name in programs]
