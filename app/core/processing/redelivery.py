"""Messages without a time of their own that MQTT delivers twice: a record in; out, whether the state knows the message.

A bridge that dies between Kafka's ack and its own PUBACK gets its last messages again, marked as redelivered. A message
with a time is a duplicate by its row's key. A message without would be another reading, as of its second arrival; so
the state keeps marks of the last messages, each made of the payload and the MQTT packet id, which a redelivery keeps.
An equal reading is no redelivery: its row stays.
"""

from xxhash import xxh3_64_intdigest

from app.core.model.headers import PACKET_ID, REDELIVERED
from app.core.model.records import Record
from app.core.state.device_state import DeviceState
from app.core.state.message_marks import SIZE, MessageMarks

_BITS = (1 << 8 * SIZE) - 2  # the last bit says that the message came as a redelivery


def delivery(record: Record) -> tuple[int, bool] | None:
    """The packet id under which a bridge received the message, and whether as a redelivery; None at QoS 0, and for a
    record that came by no bridge.
    """
    number, again = None, False
    for name, value in record.headers:
        if name == PACKET_ID and value is not None and value.isdigit() and len(value) < 10:
            number = int(value)
        elif name == REDELIVERED and value not in (None, b"", b"0"):
            again = True
    return None if number is None else (number, again)


def is_known(state: DeviceState, record: Record, delivered: tuple[int, bool], at_ms: int) -> bool:
    """Whether the state knows the message of a redelivery; an unknown message is remembered. The record came in
    `at_ms`, milliseconds since 1970.

    A record at or below the applied offset comes again by a replay, and is compared with the messages that have come
    again before, as the first time. Where these say nothing the state, which is newer, is only asked for a first
    delivery: a redelivery that was stored would find itself, and where rows are made anew its row would be lost.
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
