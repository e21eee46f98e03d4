"""A dead letter as a line of JSON, and back again, each byte of it.

A line has the letter's envelope as it is (`letter`), with the place, the key and the headers of its record. What is no
UTF-8 is in base64, under a name that says so. A line that is itself an envelope, of the four published fields or more,
is taken too.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.core.deadletters.letters import read_letter
from app.errors import PermanentError
from app.kafka.messages import OutgoingMessage

LONGEST = 16 << 20  # bytes of a line


class _Header(Struct, omit_defaults=True):
    name: str
    value: str | UnsetType | None = UNSET
    value_base64: str | UnsetType = UNSET


class _Line(Struct, omit_defaults=True):
    partition: int | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    time_ms: int | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    key_base64: str | UnsetType = UNSET
    headers: Sequence[_Header] = ()
    letter: Raw | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


def line_of(record: Any) -> bytes:
    """The line of a record of the dead-letter topic, without its end. Never raises."""
    made = _Line(record.partition, record.offset, record.timestamp)
    made.key, made.key_base64 = _text(record.key)
    made.headers = [_Header(name, *_text(value)) for name, value in record.headers]
    value = record.value or b""
    if b"\n" not in value and read_letter(value, (), None) is not None:
        made.letter = Raw(value)
    else:
        made.value_base64 = b64encode(value).decode()
    return _encode(made)


def message_of(line: bytes) -> OutgoingMessage:
    """The record that a line stands for. Raises ValueError that says what is wrong with it."""
    try:
        found = _decode(line)
        if found.letter is UNSET and found.value_base64 is UNSET:
            key, headers, value = None, [], line
        else:
            key, headers = _bytes(found.key, found.key_base64), [(one.name, _header(one)) for one in found.headers]
            value = bytes(found.letter) if found.letter is not UNSET else b64decode(_given(found), validate=True)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if read_letter(value, headers, key) is None:
        raise ValueError("it is no dead letter: original_topic, error, timestamp and payload_base64 are texts")
    partition = None if key is not None or found.partition is UNSET else found.partition
    return OutgoingMessage(key, value, headers, partition if partition is None else max(0, partition))


def messages(file: BinaryIO, first: int) -> Iterator[tuple[int, OutgoingMessage]]:
    """(number, record) of each line from number `first` on, the first line is 1; blank lines are none. Raises
    PermanentError that names the line.
    """
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise PermanentError(f"line {number} has more than {LONGEST} bytes")
        if number < first or not line.strip():
            continue
        try:
            yield number, message_of(line.strip())
        except ValueError as error:
            raise PermanentError(f"line {number}: {error}") from None


def _given(found: _Line) -> str:
    return found.value_base64 if isinstance(found.value_base64, str) else ""


def _header(one: _Header) -> bytes:
    value = _bytes(one.value, one.value_base64)
    return b"" if value is None else value


def _bytes(text: str | UnsetType | None, base64: str | UnsetType) -> bytes | None:
    if isinstance(base64, str):
        return b64decode(base64, validate=True)
    return text.encode() if isinstance(text, str) else None


def _text(value: bytes | None) -> tuple[str | UnsetType | None, str | UnsetType]:
    if value is None:
        return None, UNSET
    try:
        return value.decode(), UNSET
    except UnicodeDecodeError:
        return UNSET, b64encode(value).decode()
