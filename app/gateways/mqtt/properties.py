"""The properties of an MQTT 5 PUBLISH -> its user properties; never raises on bytes that a device can choose."""

from app.errors import WireError

_FIXED = {0x01: 1, 0x02: 4}  # payload format indicator, message expiry interval: identifier -> bytes
_VARIABLE = {0x0B}  # subscription identifier
_TEXT = {0x03, 0x08, 0x09}  # content type, response topic, correlation data: two bytes of length, then the content
_TOPIC_ALIAS = 0x23
_USER = 0x26


def user_properties(data: bytes, at: int, stop: int) -> tuple[list[tuple[str, str]] | None, int]:
    """User properties (None when the properties are malformed) and where the payload begins.

    `at` is where the length of the properties stands, `stop` the end of the packet. Raises WireError when that length
    does not fit into the packet, and for a topic alias, as the bridge allows none.
    """
    length, at = _varint(data, at, stop)
    end = at + length
    if length < 0 or end > stop:
        raise WireError("a malformed PUBLISH: its properties do not fit into the packet")
    found: list[tuple[str, str]] = []
    while at < end:
        identifier, at = data[at], at + 1
        if identifier == _USER:
            name, at = _text(data, at, end)
            value, at = _text(data, at, end)
            if name is None or value is None:
                return None, end
            found.append((name, value))
        elif identifier == _TOPIC_ALIAS:
            raise WireError("a topic alias, though none was allowed")
        elif identifier in _FIXED:
            at += _FIXED[identifier]
        elif identifier in _TEXT:
            at += 2 + int.from_bytes(data[at : at + 2], "big")
        elif identifier in _VARIABLE:
            _, at = _varint(data, at, end)
        else:
            return None, end
    return (found if at == end else None), end


def _text(data: bytes, at: int, end: int) -> tuple[str | None, int]:
    begin = at + 2
    stop = begin + int.from_bytes(data[at:begin], "big")
    if stop > end:
        return None, stop
    try:
        return data[begin:stop].decode(), stop
    except UnicodeDecodeError:
        return None, stop


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A variable byte integer and where it ends; -1 when it does not."""
    value = 0
    for shift in (0, 7, 14, 21):
        if at >= stop:
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    return -1, at
