"""Streams of messages: message n of a stream always has the same bytes, so that n identifies the message."""

import json
import re
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from tools.audit import Alert, Sent
from tools.faults.load import BAD, BAD_EVERY, THRESHOLD

STEP = timedelta(milliseconds=10)  # between two readings of a device
COLD, HOT = 60, 20  # readings of a device in a row; an episode is one run of hot ones
NUMBER = re.compile(rb'"sequence_id":\s*"?(\d+)')  # also in every bad payload


class Stream:
    """Readings of `devices` devices of one user, with the stream's letter in their names; device after device."""

    each_record = False  # whether each repeated record of a bad message becomes a dead letter, too

    def __init__(self, letter: str, user: str, devices: int, seed: int, begin: datetime) -> None:
        self.letter, self.devices, self.begin = letter, devices, begin
        self._prefix = f"users/{user}/devices/{letter}"
        self._key = f"{user}/{letter}"
        self._salt = f"{seed}/{letter}/"
        self.sent = 0  # messages 0 to sent - 1 are acknowledged

    def device(self, n: int) -> str:
        """The device of message n."""
        return f"{self.letter}{n % self.devices}"

    def time(self, n: int) -> datetime:
        """The event time of message n."""
        return self.begin + n // self.devices * STEP

    def stamp(self, n: int) -> str:
        """The event time of message n in the format of alert events."""
        return self.time(n).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def bad(self, n: int) -> tuple[str, str] | None:
        """(template, reason) of a message that can never be stored; None for a good message."""
        lot = self._lot(n)
        return BAD[lot // BAD_EVERY % len(BAD)] if lot % BAD_EVERY == 0 else None

    def _lot(self, n: int) -> int:
        return zlib.crc32(f"{self._salt}{n}".encode())

    def is_message(self, n: int, key: bytes | None, payload: bytes) -> bool:
        """Whether a record's key and value belong to message n."""
        sent = self.message(n)
        return (key, payload) == (sent.key, sent.payload)

    def hot(self, n: int) -> bool:
        """Whether the reading is above the rule's threshold."""
        return (n // self.devices + 7 * (n % self.devices)) % (COLD + HOT) >= COLD

    def temperature(self, n: int) -> int:
        """The temperature of good message n."""
        return THRESHOLD + (5 if self.hot(n) else -5)

    def message(self, n: int) -> Sent:
        """Message n: topic, key, payload, reason."""
        number = n % self.devices
        topic, key = f"{self._prefix}{number}/telemetry", f"{self._key}{number}".encode()
        if bad := self.bad(n):
            return Sent(topic, key, (bad[0] % (self.stamp(n), n)).encode(), bad[1])
        reading = {"time": self.stamp(n), "sequence_id": n, "temperature": self.temperature(n), "n": number}
        return Sent(topic, key, json.dumps(reading).encode())

    def alerts(self) -> Iterator[Alert]:
        """The alerts that the sent messages must cause, in order per device."""
        opened: dict[str, str] = {}
        for n in range(self.sent):
            if self.bad(n):
                continue
            device, hot = self.device(n), self.hot(n)
            if hot and device not in opened:
                opened[device] = self.stamp(n)
                yield Alert(device, opened[device], "FIRING")
            elif not hot and device in opened:
                yield Alert(device, opened.pop(device), "RESOLVED")


def number_of(payload: bytes) -> int:
    """The number of a message in its stream; -1 for a foreign message."""
    found = NUMBER.search(payload)
    return int(found[1]) if found else -1
