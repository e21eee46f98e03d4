"""What a simulated device measures: pure functions of its number, its sequence id and the time."""

import json
import math
from datetime import UTC, datetime

# The rules of every simulated user; reading() is made to cross each of them now and then.
RULES = [
    {"key": "temperature", "operator": ">", "threshold": 80, "clear_threshold": 75, "severity": "critical",
     "message": "too hot"},
    {"key": "battery", "operator": "<", "threshold": 15, "severity": "warning", "message": "battery low"},
    {"key": "engine.oil.temp", "operator": ">=", "threshold": 120, "clear_threshold": 115, "severity": "warning",
     "message": "oil too hot"},
]  # fmt: skip

BAD_EVERY = 500  # of so many readings one is broken, in one of these ways
BROKEN = (
    b'{"sequence_id": 1, "timestamp": "2020-',  # cut off
    b'{"timestamp": "not a time", "sequence_id": 1}',
    b'{"temperature": NaN, "sequence_id": 1, "timestamp": 1}',
    b"[1, 2, 3]",
)


def payload(number: int, sequence: int, now: float) -> bytes:
    """The message of a device: a reading as JSON, or something broken one time in BAD_EVERY. `number` is the device's,
    `now` seconds since 1970.
    """
    if is_broken(number, sequence):
        return BROKEN[(sequence // BAD_EVERY + number) % len(BROKEN)]
    return json.dumps(reading(number, sequence, now)).encode()


def is_broken(number: int, sequence: int) -> bool:
    """Whether the message of this device with this sequence id is broken on purpose."""
    return (sequence + number * 37) % BAD_EVERY == 0


def reading(number: int, sequence: int, now: float) -> dict[str, object]:
    """A reading that swings with a period of 60 to 140 s; every fourth device gets too hot at its peak. `now` is
    seconds since 1970. Fields: those of app.telemetry, engine (oil.temp in degrees, rpm) and firmware.
    """
    period = 60 + (number * 37) % 80
    swing = math.sin(2 * math.pi * (now / period + number / 7))
    temperature = 55 + (30 if number % 4 == 0 else 20) * swing
    return {
        "sequence_id": sequence,
        "timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
        "temperature": round(temperature, 2),
        "battery": 100 - int((now / 6 + number * 13) % 90),  # empties within 9 minutes, then is changed
        "engine": {"oil": {"temp": round(100 + 25 * swing if number % 5 == 0 else 90 + 10 * swing, 1)}, "rpm": 1500},
        "firmware": "1.4.2",
    }
