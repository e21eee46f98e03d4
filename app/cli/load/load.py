"""`iot-stream load`: a measured load over MQTT, and whether all of it arrived."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import typer
import uvloop
from msgspec.structs import asdict

from app.cli.load import options as given
from app.cli.load.options import STANDARD_OUTPUT, LoadOutputs
from app.cli.load.progress import shown
from app.cli.load.target import AccountOptions, LoadTarget, LoadTls, open_files, target
from app.cli.options import Directory, quiet
from app.loadtest.findings import LoadLedger, LoadVerdict, as_dict, text
from app.loadtest.progress import LoadProgress
from app.loadtest.report import page
from app.loadtest.run import LoadAmount, LoadEnd, LoadRun, LoadServers
from app.loadtest.schedule import Profile
from app.ops.audit import audited
from app.runtime.tracing.start import STOP_SECONDS, start_tracing

EXIT_CODES = {
    LoadVerdict.COMPLETE: 0,
    LoadVerdict.UNCHECKED: 0,
    LoadVerdict.INCOMPLETE: 1,
    LoadVerdict.INTERRUPTED: 130,
}


def load(
    users: given.Users = 10,
    devices_per_user: given.PerUser = 3,
    rate: given.RatePerSecond = 100.0,
    duration: given.Duration = 60.0,
    profile: Profile = Profile.STEADY,
    host: given.BrokerHost = None,
    port: given.BrokerPort = None,
    username: given.Username = None,
    password_file: given.PasswordFile = None,
    user: given.AsUser = None,
    tls: given.Tls = False,
    ca: given.Ca = None,
    certificate: given.Certificate = None,
    key: given.Key = None,
    database_url: given.DatabaseOption = None,
    keep: given.Keep = False,
    purge: given.Purge = False,
    patience: given.Patience = 30.0,
    trace_ratio: given.Ratio = None,
    report: given.ReportFile = None,
    as_json: given.JsonFile = None,
    directory: Directory = None,
) -> None:
    """Send readings over MQTT 5 at QoS 1, wait for their rows, and check each row and each alert. Exit code 1:
    something is missing, doubled or altered; 130: Ctrl-C, nothing is checked. Without --host: the local stack.

    Examples: iot-stream load --users 30 --devices-per-user 3 --rate 200

    iot-stream load --host emqx --users 500 --rate 20000 --database-url postgresql://iot@db/iot --report load.html
    """
    files, who = LoadTls(tls, ca, certificate, key), AccountOptions(username, password_file, user)
    outputs = LoadOutputs(_writable(report, "--report"), _writable(as_json, "--json"))
    where = target((host, port), who, files, database_url, directory)
    amount = LoadAmount(users if user is None else 1, devices_per_user, rate, duration, profile)
    ledger = _run(amount, where, LoadEnd(patience, keep, purge), trace_ratio, outputs)
    raise typer.Exit(EXIT_CODES.get(ledger.verdict, 0))


def _run(
    amount: LoadAmount, where: LoadTarget, end: LoadEnd, trace_ratio: float | None, outputs: LoadOutputs
) -> LoadLedger:
    """The ledger, printed and written."""
    open_files(amount.users * amount.devices_per_user)
    quiet()
    settings = where.settings
    if trace_ratio is not None:
        settings = settings.model_copy(update={"trace_ratio": trace_ratio})
    servers = LoadServers(where.broker, where.user, where.accounts, where.database, settings.trace_ratio)
    tracing = start_tracing("load", settings)

    async def done(show: Callable[[LoadProgress], None]) -> tuple[LoadRun, LoadLedger]:
        run = LoadRun(amount, servers, end, tracing, show)
        stop, hurry = asyncio.Event(), asyncio.Event()
        what = {"run": run.plan.run, "broker": str(where.broker), **asdict(amount), "profile": amount.profile.value}
        async with audited(settings, "load", what) as audit:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
            ledger = await run.run(stop, hurry)
            audit.outcome = ledger.verdict.value
            audit.counts = {"sent": ledger.sent, "acked": ledger.acked, "users": 0 if where.user else ledger.users}
        return run, ledger

    began = datetime.now(UTC)
    try:
        with shown() as show, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            run, ledger = runner.run(done(show))
    finally:
        tracing.stop(STOP_SECONDS)
    _print(ledger, outputs)
    if outputs.report:
        outputs.report.write_text(page(ledger, run.samples, run.acks, run.rows, began), encoding="utf-8")
    return ledger


def _print(ledger: LoadLedger, outputs: LoadOutputs) -> None:
    found = json.dumps(as_dict(ledger), indent=1)
    if outputs.ledger == STANDARD_OUTPUT:
        print(found)
        return
    print("\n".join(text(ledger)))
    if outputs.ledger:
        outputs.ledger.write_text(found + "\n", encoding="utf-8")


def _writable(path: Path | None, option: str) -> Path | None:
    """The path, if it can be written: said now, and not after the run. Raises BadParameter."""
    if path is None or (path == STANDARD_OUTPUT and option == "--json"):
        return path
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise typer.BadParameter(f"cannot write {path}", param_hint=option)
    return path
