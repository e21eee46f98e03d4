"""Where the simulated devices send when they do not publish over MQTT: a way in; out, its outlet at the local stack."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import PermanentError, TransientError
from app.local.fleet.devices import USERS
from app.local.fleet.gateway_fleet import Outlet, Sample
from app.local.fleet.http_outlet import HttpOutlet
from app.local.fleet.readings import is_broken, reading
from app.local.fleet.tcp_outlet import TcpOutlet
from app.local.servers.mosquitto import Mosquitto

if TYPE_CHECKING:  # the client comes with the extra `gateways`
    from app.protobuf.events_pb2 import Event
    from app.protobuf.metrics_pb2 import Metric

PATIENCE = 30.0  # seconds for an answer
ADDRESSES = {"http": "HTTP_URL", "tcp": "TCP_ADDRESS", "grpc": "GRPC_SOCKET", "quic": "QUIC_ADDRESS"}  # of stack.env


def outlet(way: str, env: Mapping[str, str], broker: Mosquitto) -> Outlet:
    """The outlet to the gateway `way` (http, tcp, grpc, quic). To be called in the event loop that uses it; `env` is
    stack.env. Raises PermanentError when no such gateway runs.
    """
    address = env.get(ADDRESSES[way])
    if address is None:
        raise PermanentError(f"the local stack has no gateway for {way}: iot-stream up --ingest {way}")
    match way:
        case "http":
            return HttpOutlet(address, {user: broker.password_of(user) for user in USERS})
        case "tcp":
            return TcpOutlet(address, {user: broker.password_of(user) for user in USERS})
        case "grpc":
            return GrpcOutlet(address, env["INGEST_TOKEN"])
    return QuicOutlet(address, Path(env["QUIC_CA"]), Path(env["QUIC_CERT"]), Path(env["QUIC_KEY"]))


def event(sample: Sample) -> Event:
    """A sample for gRPC; what is broken on purpose has no number for a temperature, which the gateway refuses."""
    from app.protobuf.events_pb2 import Event

    made = Event(user_id=sample.user, device_id=sample.device, sequence_id=sample.sequence, time_us=_time(sample))
    fields = reading(sample.number, sample.sequence, sample.at)
    made.temperature = math.nan if is_broken(sample.number, sample.sequence) else float(str(fields["temperature"]))
    made.battery = int(str(fields["battery"]))
    made.extra_json = json.dumps({"engine": fields["engine"], "firmware": fields["firmware"]}).encode()
    return made


def metric(sample: Sample) -> Metric:
    """A sample for QUIC: its user as the node, its device as the sensor; broken as in `event`."""
    from app.protobuf.metrics_pb2 import Metric

    made = Metric(node_id=sample.user, sensor_id=sample.device, sequence_id=sample.sequence, time_us=_time(sample))
    fields = reading(sample.number, sample.sequence, sample.at)
    made.value = math.nan if is_broken(sample.number, sample.sequence) else float(str(fields["temperature"]))
    kept = {name: value for name, value in fields.items() if name not in ("sequence_id", "timestamp")}
    made.extra_json = json.dumps(kept).encode()
    return made


def _time(sample: Sample) -> int:
    return int(sample.at * 1e6)


class GrpcOutlet:
    """Events over the UNIX socket, as the operator."""

    def __init__(self, socket: str, token: str) -> None:
        """`socket` is the path of the gateway's UNIX socket, `token` the operator's."""
        from app.client import AsyncIngestClient, ClientCredentials, Pace

        self._client = AsyncIngestClient(f"unix://{socket}", ClientCredentials(token=token), Pace(give_up=PATIENCE))

    async def send(self, samples: Sequence[Sample]) -> int:
        """Send the samples as one batch; how many were refused. Raises TransientError after PATIENCE, PermanentError
        when the gateway refuses the call.
        """
        acked = await self._client.push([event(sample) for sample in samples])
        return len(acked.refused)

    async def close(self) -> None:
        """End the connection."""
        await self._client.close()


class QuicOutlet:
    """Metrics with the operator's certificate: each user a node, each device one of its sensors."""

    def __init__(self, address: str, ca: Path, certificate: Path, key: Path) -> None:
        """`address` is host:port; the files are PEM. Raises SettingsError for files that cannot be used."""
        from app.client.quic.credentials import client_configuration
        from app.client.quic.sender import QuicSender

        host, _, port = address.rpartition(":")
        self._sender = QuicSender((host, int(port)), client_configuration(ca, certificate, key, host))
        self._open = False

    async def send(self, samples: Sequence[Sample]) -> int:
        """Send the samples as one batch; how many were refused. Raises TransientError after PATIENCE; the sender goes
        on trying, and rows are stored once.
        """
        from app.protobuf.metrics_pb2 import MetricBatch

        if not self._open:
            await self._sender.__aenter__()
            self._open = True
        answer = await self._sender.send(MetricBatch(metrics=[metric(sample) for sample in samples]))
        try:
            ack = await asyncio.wait_for(answer, PATIENCE)
        except TimeoutError:
            raise TransientError("fleet: no answer of the QUIC gateway") from None
        return len(samples) if ack.HasField("refusal") else len(ack.rejected)

    async def close(self) -> None:
        """End the connection, if any."""
        if self._open:
            await self._sender.__aexit__(None, None, None)
