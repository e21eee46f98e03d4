"""Destinations that are receivers in this process, of the HTTP feed and of gRPC: stopped, silent, and refusing."""

import json
from collections.abc import Sequence
from typing import Any

from grpc import StatusCode

from tests.receivers.grpc_receiver import Acks, Ends, GrpcReceiver
from tests.receivers.http_receiver import Answer, HttpReceiver
from tools.faults.sinks.found import Audit, FoundReading, Times
from tools.faults.stream import Stream

NEVER = 3600.0  # seconds


class _Receiver:
    """A receiver whose `judge` decides on each answer."""

    def __init__(self, receiver: HttpReceiver | GrpcReceiver, silence: Any, refusal: Any) -> None:
        """`silence` is the answer of a frozen receiver, `refusal` the answer to an account without rights."""
        self.receiver: Any = receiver
        self._silence, self._refusal = silence, refusal

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        await self.receiver.start()

    async def stop(self) -> None:
        """Stop the destination for good."""
        await self.receiver.stop()

    async def leave(self, how: str) -> None:
        """Inflict the fault `how` on the destination."""
        if how == "killed":
            await self.receiver.stop()
        else:
            answer = self._silence if how == "frozen" else self._refusal
            self.receiver.judge = lambda _: answer

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        self.receiver.judge = lambda _: None
        if how == "frozen":
            await self.receiver.stop()
        if how in ("killed", "frozen"):
            await self.receiver.start()


class HttpFeed(_Receiver):
    """A receiver of the HTTP feed in this process."""

    sink = "http_feed"

    receiver: HttpReceiver

    def __init__(self) -> None:
        super().__init__(HttpReceiver(), Answer(503, taken=False, seconds=NEVER), Answer(403))

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {"feed_url": self.receiver.url, "feed_token": "a token of the fault tests", "feed_flush_ms": 100}

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit = Audit("http_feed", streams, times)
        found = [
            FoundReading(one.get("device_id") or one["sensor_id"], one["sequence_id"], one["temperature"])
            for one in self.receiver.taken
        ]
        audit.each_at_least_once_and_in_order(found)
        return audit


class GrpcFeed(_Receiver):
    """A receiver of gRPC in this process."""

    sink = "grpc"

    receiver: GrpcReceiver

    def __init__(self) -> None:
        super().__init__(GrpcReceiver(), Acks(silent=True), Ends(StatusCode.PERMISSION_DENIED))

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {"grpc_push_target": self.receiver.target}

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit = Audit("grpc", streams, times)
        audit.each_at_least_once_and_in_order([_pushed(one) for one in self.receiver.taken])
        return audit


def _pushed(item: Any) -> FoundReading:
    """The reading in an Event, or in a Metric that has the temperature in its extra fields."""
    if item.DESCRIPTOR.name == "Event":
        return FoundReading(item.device_id, item.sequence_id, item.temperature)
    return FoundReading(item.sensor_id, item.sequence_id, json.loads(item.extra_json)["temperature"])
