"""What is sent: message number n of a stream is the same bytes for ever, so that n is all one must remember."""

import json
import re
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from tools.audit import Alert, Sent
from tools.faults.load import BAD, BAD_EVERY, THRESHOLD

STEP = timedelta(milliseconds=10)  # between two readings of a device
COLD, HOT = 60, 20  # readings of a device in a row; an episode is one run of hot ones
NUMBER = re.compile(rb'"sequence_id":\s*"?(\d+)')  # is also in every bad payload


class Stream:
    """Readings of `devices` devices of one user, named by the stream's letter; device after device."""

    each_record = False  # a bad message that was sent again is a dead letter again: nothing tells it from an equal one

    def __init__(self, letter: str, user: str, devices: int, seed: int, begin: datetime) -> None:
        self.letter, self.devices, self.begin = letter, devices, begin
        self._prefix = f"users/{user}/devices/{letter}"
        self._key = f"{user}/{letter}"
        self._salt = f"{seed}/{letter}/"
        self.sent = 0  # messages 0 to sent - 1 are acknowledged

    def device(self, n: int) -> str:
        """Whose message it is."""
        return f"{self.letter}{n % self.devices}"

    def time(self, n: int) -> datetime:
        """Its event time."""
        return self.begin + n // self.devices * STEP

    def stamp(self, n: int) -> str:
        """Its event time as alert events write it."""
        return self.time(n).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def bad(self, n: int) -> tuple[str, str] | None:
        """Template and reason of a message that can never be stored; None for a good one."""
        lot = self._lot(n)
        return BAD[lot // BAD_EVERY % len(BAD)] if lot % BAD_EVERY == 0 else None

    def _lot(self, n: int) -> int:
        return zlib.crc32(f"{self._salt}{n}".encode())

    def is_message(self, n: int, key: bytes | None, payload: bytes) -> bool:
        """Whether a record's key and value are message n's."""
        sent = self.message(n)
        return (key, payload) == (sent.key, sent.payload)

    def hot(self, n: int) -> bool:
        """Whether the reading is above the rule's threshold."""
        return (n // self.devices + 7 * (n % self.devices)) % (COLD + HOT) >= COLD

    def temperature(self, n: int) -> int:
        """Of a good message."""
        return THRESHOLD + (5 if self.hot(n) else -5)

    def message(self, n: int) -> Sent:
        """Topic, key, payload, reason."""
        number = n % self.devices
        topic, key = f"{self._prefix}{number}/telemetry", f"{self._key}{number}".encode()
        if bad := self.bad(n):
            return Sent(topic, key, (bad[0] % (self.stamp(n), n)).encode(), bad[1])
        reading = {"time": self.stamp(n), "sequence_id": n, "temperature": self.temperature(n), "n": number}
        return Sent(topic, key, json.dumps(reading).encode())

    def alerts(self) -> Iterator[Alert]:
        """The alerts that what was sent must have caused, in order per device."""
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
    """Which message of its stream it is; -1 when it is none of them."""
    found = NUMBER.search(payload)
    return int(found[1]) if found else -1
