"""`iot-stream push`: lines of JSON from a file or a pipe to a gateway, each acknowledged once Kafka has it."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, NamedTuple, TextIO

import typer
from msgspec import Struct

from app.cli.options import on_a_terminal, say
from app.client.lines.json_items import Owner
from app.client.lines.push import LinePush, Streams
from app.client.lines.report import PushReport
from app.client.lines.resume import Mark, read_mark, skip
from app.client.lines.source import Lines
from app.client.pace import Pace
from app.errors import PermanentError, TransientError
from app.runtime.addresses import address, of_grpc
from app.runtime.retry import log_level

SHOW_SECONDS = 1.0
STANDARD_INPUT = "-"
SOCKET = "unix:///tmp/telemetry_ingest.sock"
QUIC_PORT = 5001


class PushTarget(Struct, frozen=True):
    """Which gateway, by which way, and with which credentials."""

    grpc: str
    quic: str | None  # instead of gRPC
    token_file: Path | None
    ca: Path | None
    certificate: Path | None
    key: Path | None
    server_name: str | None


class PushSource(NamedTuple):
    """What is pushed, and from where on."""

    lines: Lines
    mark: Mark
    kept_in: Path | None  # the file of the mark, rewritten as the mark moves


def _of_grpc(text: str) -> str:
    """The text itself. Raises BadParameter for what is neither a socket nor host:port."""
    try:
        of_grpc(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from None
    return text


GrpcGateway = Annotated[str, typer.Option(callback=_of_grpc, help="gRPC gateway: unix:///path or host:port.")]
TokenFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="File with a token of `iot-stream users token`.")
]
CaFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="CA of the gateway's certificate, PEM.")]
CertificateFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Own certificate, PEM.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="The certificate's key. Default: in the same file."),
]


def push(
    source: Annotated[str, typer.Argument(metavar="FILE", help="NDJSON, one reading a line; -: standard input.")],
    grpc: GrpcGateway = SOCKET,
    quic: Annotated[
        str | None, typer.Option(help="QUIC gateway instead: host:port; needs --ca, --certificate.")
    ] = None,
    token_file: TokenFile = None,
    ca: CaFile = None,
    certificate: CertificateFile = None,
    key: KeyFile = None,
    server_name: Annotated[str | None, typer.Option(help="Name of the gateway's certificate.")] = None,
    user: Annotated[str | None, typer.Option(help="User, or node, of lines that name none.")] = None,
    device: Annotated[str | None, typer.Option(help="Device, or sensor, of lines that name none.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Readings of a message.")] = 500,
    in_flight: Annotated[int, typer.Option(min=1, help="Messages that may wait for their ack.")] = 16,
    give_up: Annotated[float | None, typer.Option(help="End after so many seconds without an ack. Never.")] = None,
    resume: Annotated[Path | None, typer.Option(help="File that notes the lines sent; go on after them.")] = None,
    refused: Annotated[Path | None, typer.Option(help="Append the refused lines to this file, with reasons.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Push readings, in order, wait while the gateway is away, and send again what has no ack.

    A line is what the HTTP and TCP gateways take: {"user_id","device_id","sequence_id","timestamp",...} or
    {"node_id","sensor_id","value",...}; QUIC carries these. Exit code 1: lines were refused, or not all have an ack.

    Example: iot-stream push readings.ndjson --token-file token --resume readings.mark

    Or: agent | iot-stream push - --quic ingest.example.com:5001 --ca ca.pem --certificate n7.pem --key n7.key
    """
    target = PushTarget(grpc, quic, token_file, ca, certificate, key, server_name)
    pace, owner = Pace(batch_items=batch, in_flight=in_flight, give_up=give_up), Owner(user, device)
    with ExitStack() as files:
        report = PushReport(_append(refused, files) if refused else None)
        pushing = _run(target, pace, owner, report, _source(source, resume, files))
        try:
            asyncio.run(pushing)
        finally:
            print(json.dumps(report.figures()) if as_json else report.line())
    if report.refused:
        raise _some_refused(report, refused)


def _some_refused(report: PushReport, file: Path | None) -> typer.Exit:
    """The end of a push with refused lines, the first of which is named where no file has them."""
    if file is None:
        say(f"iot-stream push: first refused: {report.first_refused}; --refused FILE keeps all of them")
    return typer.Exit(1)


async def _run(target: PushTarget, pace: Pace, owner: Owner, report: PushReport, source: PushSource) -> None:
    showing = asyncio.create_task(_show(report)) if on_a_terminal() else None
    try:
        way = _by_grpc(target, pace, report) if target.quic is None else _by_quic(target, target.quic, pace, report)
        async with way as streams:
            await LinePush(streams, pace, owner, report).run(source.lines, source.mark, source.kept_in)
    finally:
        if showing:
            showing.cancel()
            say("\r\x1b[K")


@asynccontextmanager
async def _by_grpc(target: PushTarget, pace: Pace, report: PushReport) -> AsyncIterator[Streams]:
    """The streams of a gRPC gateway."""
    try:
        from app.client import AsyncIngestClient, ClientCredentials, Event, Metric
        from app.runtime.rpc.failed_call import words
    except ModuleNotFoundError as error:
        raise PermanentError(f"gRPC needs the package {error.name}: pip install 'iot-stream[gateways]'") from None
    credentials = ClientCredentials(
        token_file=target.token_file,
        ca_file=target.ca,
        certificate_file=target.certificate,
        key_file=target.key,
        server_name=target.server_name,
    )
    async with AsyncIngestClient(target.grpc, credentials, pace, _noted_failure(report, words)) as client:
        yield {Event: client.sending, Metric: client.sending}


@asynccontextmanager
async def _by_quic(target: PushTarget, where: str, pace: Pace, report: PushReport) -> AsyncIterator[Streams]:
    """The stream of a QUIC gateway: metrics alone."""
    if target.ca is None or target.certificate is None:
        raise typer.BadParameter("needs --ca and --certificate: both sides show a certificate", param_hint="--quic")
    try:
        from app.client.quic.credentials import client_configuration
        from app.client.quic.sender import QuicSender
        from app.client.quic.sending import QuicSending
        from app.protobuf.metrics_pb2 import Metric
    except ModuleNotFoundError as error:
        raise PermanentError(f"QUIC needs the package {error.name}: pip install 'iot-stream[gateways]'") from None
    try:
        host, port = address(where, QUIC_PORT)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; give host:port", param_hint="--quic") from None
    configuration = client_configuration(target.ca, target.certificate, target.key, target.server_name or host)
    note = _noted_failure(report, str)
    async with QuicSender(
        (host, port), configuration, failed=lambda failures, pause, why: note(failures, pause, TransientError(why))
    ) as sender:
        yield {Metric: lambda: QuicSending(sender, pace)}


def _noted_failure(
    report: PushReport, words: Callable[[BaseException], str]
) -> Callable[[int, float, BaseException], None]:
    """Shows why a call is tried again, or prints the reason, the first times and then now and then."""

    def failed(failures: int, pause: float, error: BaseException) -> None:
        report.failure = f"{words(error)}; again in {pause:.1f} s"
        if not on_a_terminal() and log_level(failures) >= logging.WARNING:
            say(f"iot-stream push: {report.failure} (failure {failures})")

    return failed


async def _show(report: PushReport) -> None:
    while True:
        print(f"\r\x1b[K{report.line()} {report.failure}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(SHOW_SECONDS)


def _source(name: str, resume: Path | None, files: ExitStack) -> PushSource:
    """The source, read on to the mark."""
    mark = read_mark(resume) if resume else Mark()
    try:
        opened = sys.stdin.buffer if name == STANDARD_INPUT else files.enter_context(open(name, "rb"))  # noqa: SIM115
    except OSError as error:
        raise typer.BadParameter(f"cannot read {name}: {error.strerror}", param_hint="FILE") from None
    if resume:
        skip(opened, mark, resume)
    return PushSource(Lines(opened, mark.line, mark.offset), mark, resume)


def _append(path: Path, files: ExitStack) -> TextIO:
    try:
        return files.enter_context(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--refused") from None
