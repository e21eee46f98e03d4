"""What a sender and a receiver of MQTT 5 read alike: where a packet ends, and packets other than PUBLISH. No I/O.

Packets are cut here and not by mqtt5 (Rust), which says "not enough bytes" both for half a packet and for a whole one
whose inner lengths lie.
"""

from typing import Any

import mqtt5

from app.errors import WireError


def frame(data: bytes, at: int, max_bytes: int) -> tuple[int, int]:
    """Where the body of the packet at `at` begins, and where it ends; an end beyond the data while that is not known.

    Raises WireError for a malformed length or a packet above `max_bytes`, before anything of that size is kept.
    """
    remaining = shift = 0
    for index in range(at + 1, at + 5):
        if index >= len(data):
            return index, len(data) + 1
        remaining |= (data[index] & 0x7F) << shift
        if data[index] < 0x80:
            stop = index + 1 + remaining
            if stop - at > max_bytes:
                raise WireError(f"a packet of {stop - at} bytes; at most {max_bytes} were announced to the broker")
            return index + 1, stop
        shift += 7
    raise WireError("a remaining length of more than four bytes")


def control_packet(packet: bytes) -> Any:
    """A whole packet other than PUBLISH, as mqtt5 reads it. Raises WireError for a malformed one."""
    try:
        found, size = mqtt5.read(memoryview(packet))
    except (IndexError, ValueError) as wrong:
        raise WireError(f"a malformed packet: {wrong}") from None
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":  # a BaseException of the codec; it cannot be imported
            raise
        raise WireError("a malformed packet: text that is not UTF-8") from None
    if size != len(packet):
        raise WireError("a malformed packet: its length does not fit its content")
    return found
