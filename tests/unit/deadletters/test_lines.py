"""Lines of an export: each byte comes back, other people's lines are taken, and wrong ones are named."""

import io
import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deadletters.lines import line_of, message_of, messages
from app.errors import PermanentError
from tests.unit.deadletters.letters import Held, held, plain
from tests.unit.records import NOW_MS


@given(
    st.none() | st.binary(max_size=50),
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=9)), max_size=3),
)
def test_what_is_written_is_read_back(
    payload: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    record = held(payload)
    record.key, record.headers = key, [*record.headers, *headers]
    line = line_of(record)
    assert b"\n" not in line
    found = message_of(line)
    assert (found.key, found.value, list(found.headers)) == (key, record.value, list(record.headers))
    assert found.partition == (3 if key is None else None)


def test_a_line_can_be_read_by_a_person() -> None:
    line = json.loads(line_of(held()))
    assert (line["partition"], line["offset"], line["key"]) == (3, 17, "u1/d1")
    assert line["letter"]["error"] == "it is broken (decode: bad_json)"
    assert {"name": "reason", "value": "bad_json"} in line["headers"]


def test_an_envelope_over_several_lines_is_one_line() -> None:
    pretty = plain()
    pretty.value = json.dumps(json.loads(pretty.value or b""), indent=1).encode()
    assert b"\n" not in line_of(pretty)
    assert message_of(line_of(pretty)).value == pretty.value


def test_an_envelope_alone_is_a_line() -> None:
    envelope = plain(b"abc").value or b""
    found = message_of(envelope)
    assert (found.value, found.key, found.headers, found.partition) == (envelope, None, [], None)


@pytest.mark.parametrize(
    "line",
    [
        b"x", b"{}", b"[]", b"\xff", b'{"letter":{}}', b'{"letter":{"original_topic":"a"}}', b'{"key":7}',
        b"[" * 200_000, b'{"value_base64":"*"}', b'{"value_base64":"' + b64encode(b"no letter") + b'"}',
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(line: bytes) -> None:
    good = line_of(held())
    file = io.BytesIO(good + b"\n\n" + line + b"\n")
    with pytest.raises(PermanentError, match="line 3: "):
        list(messages(file, 1))
    file.seek(0)
    assert [number for number, _ in messages(io.BytesIO(good + b"\n \n" + good), 2)] == [3]


def test_a_record_that_is_no_letter_is_kept_too() -> None:
    assert json.loads(line_of(Held(b"\xff"))) == {
        "partition": 3, "offset": 17, "time_ms": NOW_MS, "key": None, "headers": [], "value_base64": "/w==",
    }  # fmt: skip
