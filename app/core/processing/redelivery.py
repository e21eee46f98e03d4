"""Messages without a time of their own that MQTT delivers twice: one in; out, whether the device's state knows it.

A bridge that dies between Kafka's ack and its own PUBACK gets its last messages again, marked as redelivered. One that
bears a time is a duplicate by its row's key. One that does not would be another reading, as of its second arrival; so
the state keeps marks of the last ones, each made of the payload and the MQTT packet id, which a redelivery keeps. An
equal reading is no redelivery: its row stays.
"""

from xxhash import xxh3_64_intdigest

from app.core.model.headers import PACKET_ID, REDELIVERED
from app.core.model.records import Record
from app.core.state.device_state import DeviceState
from app.core.state.message_marks import SIZE, MessageMarks

_BITS = (1 << 8 * SIZE) - 2  # the last bit says that it came as a redelivery


def delivery(record: Record) -> tuple[int, bool] | None:
    """The packet id that a bridge received it under, and whether as a redelivery; None: at QoS 0, or by no bridge."""
    number, again = None, False
    for name, value in record.headers:
        if name == PACKET_ID and value is not None and value.isdigit() and len(value) < 10:
            number = int(value)
        elif name == REDELIVERED and value not in (None, b"", b"0"):
            again = True
    return None if number is None else (number, again)


def is_known(state: DeviceState, record: Record, delivered: tuple[int, bool], at_ms: int) -> bool:
    """Whether the state knows a redelivery; what it does not know it remembers. The record came in `at_ms`.

    A record at or below the applied offset comes again by a replay, and is compared with what has come again before
    it, as it was the first time. Where that says nothing the state, which is newer, is only asked for a first delivery:
    a redelivery that was stored would find itself, and where rows are made anew it would be lost.
    """
    number, again = delivered
    bits = xxh3_64_intdigest(record.value or b"", seed=number) & _BITS
    first, second = bits.to_bytes(SIZE, "big"), (bits | 1).to_bytes(SIZE, "big")
    replay = record.offset <= state.applied_offset
    marks = state.replayed if replay else state.marks
    if again:
        if marks is not None and (marks.has(first) or marks.has(second)):
            return True
        if replay and state.marks is not None and state.marks.has(first):
            return True
    if marks is None:
        marks = MessageMarks()
        if replay:
            state.replayed = marks
        else:
            state.marks = marks
    marks.add(second if again else first, at_ms)
    return False
