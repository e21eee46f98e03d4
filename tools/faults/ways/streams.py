"""Streams for each gateway: message n of a stream as the sender sends it and as the input topic has it."""

import json
from collections.abc import Mapping
from datetime import datetime

from app.local.layout import WAYS
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import Metric
from tools.audit import Sent
from tools.faults.load import BAD_EVERY
from tools.faults.stream import Stream, number_of

LETTERS = {"http": "h", "tcp": "t", "grpc": "g", "quic": "q"}
assert set(LETTERS) == set(WAYS)
# Bad messages that a gateway accepts, because it does not know the columns, and the worker dead-letters.
BAD: list[tuple[Mapping[str, object], str]] = [
    ({"battery": 90.5}, "wrong_type"),
    ({"temperature": "hot"}, "wrong_type"),
]


class WayStream(Stream):
    """Readings as JSON with the device's id (HTTP, TCP), as Events (gRPC) or as Metrics (QUIC)."""

    each_record = True

    def __init__(self, way: str, user: str, devices: int, seed: int, begin: datetime) -> None:
        super().__init__(LETTERS[way], user, devices, seed, begin)
        self.way, self.user = way, user

    def fields(self, n: int) -> dict[str, object]:
        """The fields of message n besides its ids and its time."""
        lot = self._lot(n)
        if lot % BAD_EVERY == 0:
            return {"n": n % self.devices, **BAD[lot // BAD_EVERY % len(BAD)][0]}
        return {"n": n % self.devices, "temperature": self.temperature(n)}

    def bad(self, n: int) -> tuple[str, str] | None:
        """(device id, reason) of message `n` if the message is bad, otherwise None."""
        lot = self._lot(n)
        return ("", BAD[lot // BAD_EVERY % len(BAD)][1]) if lot % BAD_EVERY == 0 else None

    def message(self, n: int) -> Sent:
        """Message n: its topic and key, and its payload over HTTP and TCP."""
        device = self.device(n)
        ids = {"user_id": self.user, "device_id": device, "sequence_id": n, "time": self.stamp(n)}
        payload = json.dumps({**ids, **self.fields(n)}).encode()
        bad = self.bad(n)
        if self.way == "quic":
            return Sent(f"iot/{self.user}/{device}/telemetry", self.user.encode(), payload, bad and bad[1])
        topic, key = f"users/{self.user}/devices/{device}/telemetry", f"{self.user}/{device}".encode()
        return Sent(topic, key, payload, bad and bad[1])

    def event(self, n: int) -> Event:
        """Message n for gRPC."""
        made = Event(user_id=self.user, device_id=self.device(n), sequence_id=n, time_us=self._microseconds(n))
        made.extra_json = json.dumps(self.fields(n)).encode()
        return made

    def metric(self, n: int) -> Metric:
        """Message n for QUIC."""
        made = Metric(node_id=self.user, sensor_id=self.device(n), sequence_id=n, time_us=self._microseconds(n))
        made.value, made.extra_json = float(n), json.dumps(self.fields(n)).encode()
        return made

    def is_message(self, n: int, key: bytes | None, payload: bytes) -> bool:
        """Whether a record belongs to message n: equal bytes for HTTP and TCP, equal values for Events and Metrics."""
        sent = self.message(n)
        if self.way in ("http", "tcp"):
            return (key, payload) == (sent.key, sent.payload)
        if key != sent.key:  # another stream's: with the topic made anew, an offset has had several messages
            return False
        said = json.loads(payload)
        fields = {name: value for name, value in said.items() if name not in ("sequence_id", "timestamp", "value")}
        when = round(said["timestamp"] * 1e6)  # a float of seconds is exact to a microsecond
        return (number_of(payload), fields, when) == (n, self.fields(n), self._microseconds(n))

    def _microseconds(self, n: int) -> int:
        moment = self.time(n)
        return int(moment.timestamp()) * 1_000_000 + moment.microsecond
