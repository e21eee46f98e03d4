"""Any payload that a worker takes becomes one line, which a second parser reads, with at least one field."""

import pytest

from app.core.decode.influx_line import InfluxPoint, read_line
from app.core.model.records import Reading
from app.settings.sinks.influx import InfluxSettings
from app.sinks.influx.lines import LineMaker
from app.sinks.redis.values import value_maker
from tests import DEFAULT
from tests.fuzzing import INPUTS, broken
from tests.sink_readings import as_sink_record
from tests.unit.records import Message, read

HEAD = b'{"time":"2026-11-21T02:00:00.123Z","sequence_id":7,"temperature":21.5,"battery":80,'
SEEDS = [
    HEAD + b'"humidity":41.20}',
    HEAD + b'"a b,c=d\\\\":"x\\n\\"y\\" \\\\","ok":true,"no":null}',
    HEAD + b'"engine":{"oil":{"temp":90,"x":[1, 2]},"":{"":1}},"engine.oil.temp":1e5}',
    HEAD + b'"":1," ":2,"time":3,"timestamp":null,"#":"#","\\ud83d\\ude00":-0,"\\u0007":12345678901234567890}',
    HEAD + b'"l":[{"a":"\\t"},\n"b"],"e":1E400,"f":-1e-400,"g":{}}',
]
TOKENS = [
    b'"', b"\\", b"\\n", b"\\u000a", b"\\u2028", b"\n", b"{", b"}", b"[", b"]", b",", b":", b"=", b" ", b"#", b"1e999",
    b"-", b"0", b"true", b"null", b'"":', b'{"a":', b"\xc2\x85", b"\xf0\x9f\x98\x80", b"temperature", b"e", b".",
]  # fmt: skip


@pytest.mark.fuzz
@pytest.mark.parametrize("numbers", ["float", "as_sent"])
def test_every_reading_is_one_line(numbers: str) -> None:
    line = LineMaker(DEFAULT, InfluxSettings(influx_extra_numbers=numbers)).line
    value, readings = value_maker(DEFAULT), 0
    for payload in broken(SEEDS, TOKENS, INPUTS, 7):
        message = Message(payload)
        if not isinstance(read(message), Reading):
            continue
        readings += 1
        record = as_sink_record(message)
        made = line(record)
        assert "\n" not in made, payload
        assert "\r" not in made, payload
        point = read_line(made)
        assert isinstance(point, InfluxPoint), (payload, made, point)
        assert point.tags == {"user_id": "u1", "device_id": "d1"}, payload
        assert point.fields, payload
        assert value(record).startswith(b'{"time":"2'), payload
    assert readings > INPUTS / 10
