"""The options of `iot-stream load`, one name each."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

Users = Annotated[int, typer.Option(min=1, max=100_000, help="Users, each with rules of its own.")]
PerUser = Annotated[int, typer.Option(min=1, max=100_000, help="Devices, each with a connection, of a user.")]
RatePerSecond = Annotated[float, typer.Option(min=0.1, max=1e6, help="Messages a second of all devices together.")]
Duration = Annotated[float, typer.Option(min=1, max=604_800, help="Seconds of sending.")]
BrokerHost = Annotated[str | None, typer.Option(help="MQTT broker. [IOT_MQTT_HOST, or the local stack's]")]
BrokerPort = Annotated[int | None, typer.Option(min=1, max=65535, help="Its port. [1883; with --tls 8883]")]
Username = Annotated[str | None, typer.Option(help="Account of all devices. Default: one of each user.")]
PasswordFile = Annotated[Path | None, typer.Option(help="File with the account's password.")]
AsUser = Annotated[str | None, typer.Option(help="An existing user, whose devices all are; needs --username.")]
Tls = Annotated[bool, typer.Option("--tls", help="TLS; certificate and name are verified.")]
Ca = Annotated[Path | None, typer.Option("--ca-file", help="CA instead of the system's, PEM.")]
Certificate = Annotated[Path | None, typer.Option("--certificate-file", help="Own certificate, PEM.")]
Key = Annotated[Path | None, typer.Option("--key-file", help="The certificate's key. Default: in the same file.")]
DatabaseOption = Annotated[
    str | None, typer.Option(help="Make the users here, and check rows and alerts. [IOT_DATABASE_URL]")
]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the users in the database.")]
Purge = Annotated[bool, typer.Option("--purge", help="Remove the readings and the alert history of the run too.")]
Patience = Annotated[float, typer.Option(min=1, help="Seconds without progress until what is not there is missing.")]
Ratio = Annotated[float | None, typer.Option(min=0, max=1, help="Share with a traceparent. [IOT_TRACE_RATIO]")]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write the report to this HTML file.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the ledger here as JSON; -: print it.")]

STANDARD_OUTPUT = Path("-")


class LoadOutputs(NamedTuple):
    """Files to write."""

    report: Path | None
    ledger: Path | None
