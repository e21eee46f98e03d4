"""What the bridge holds of connections that are gone: written once, acked when it comes again, never forgotten."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from app.gateways.mqtt.held_records import HeldRecords
from app.gateways.mqtt.inbox import Inbox
from app.gateways.mqtt.packets import Publish
from app.gateways.mqtt.records import to_record
from app.gateways.record import IngestRecord


def message(packet_id: int, payload: bytes, *, again: bool = False, device: str = "d") -> IngestRecord:
    """A reading as it arrives."""
    return to_record(Publish(f"users/u/devices/{device}/telemetry", payload, packet_id, [], again), 1)


def acks(records: list[IngestRecord]) -> list[tuple[int, bool]]:
    """What is owed, and whether for a mere copy."""
    return [(record.packet_id, record.written) for record in records if record.packet_id]


def test_what_was_held_is_owed_no_ack_until_it_comes_again() -> None:
    held, inbox = HeldRecords(), Inbox(1 << 20)
    inbox.put([message(7, b"a"), message(0, b"qos 0"), message(3, b"b")])
    inbox.orphan(held)
    assert [record.value for record in inbox] == [b"a", b"qos 0", b"b"]
    assert acks(list(inbox)) == []
    inbox.put(held.without_copies([message(7, b"a", again=True), message(3, b"b", again=True), message(9, b"new")]))
    assert [record.value for record in inbox if not record.written] == [b"a", b"qos 0", b"b", b"new"]
    assert acks(list(inbox)) == [(7, True), (3, True), (9, False)]
    assert len(held) == 0


def test_without_the_session_the_packet_ids_are_other_messages() -> None:
    held = HeldRecords()
    held.keep([message(7, b"a")])
    held.forget()
    assert acks(held.without_copies([message(7, b"a", again=True)])) == [(7, False)]


def test_only_the_same_message_is_a_copy() -> None:
    for other in (message(7, b"b", again=True), message(7, b"a", again=True, device="e"), message(7, b"a")):
        held = HeldRecords()
        held.keep([message(7, b"a")])
        assert acks(held.without_copies([other])) == [(7, False)]


def test_the_first_new_message_ends_the_matching_and_qos_0_does_not() -> None:
    held = HeldRecords()
    held.keep([message(7, b"a"), message(8, b"b")])
    found = held.without_copies(
        [message(0, b"x"), message(7, b"a", again=True), message(9, b"y"), message(8, b"b", again=True)]
    )
    assert acks(found) == [(7, True), (9, False), (8, False)]


def test_a_copy_is_a_copy_still_after_the_next_loss() -> None:
    held, inbox = HeldRecords(), Inbox(1 << 20)
    inbox.put([message(7, b"a"), message(8, b"b")])
    for _ in range(3):
        inbox.orphan(held)
        assert [record.value for record in inbox] == [b"a", b"b"]
        inbox.put(held.without_copies([message(7, b"a", again=True)]))
    inbox.orphan(held)
    inbox.put(held.without_copies([message(7, b"a", again=True), message(8, b"b", again=True)]))
    assert acks(list(inbox)) == [(7, True), (8, True)]


@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans())
def test_all_that_arrived_is_written_in_order_over_any_losses(seed: int, connections: int, kept: bool) -> None:
    """A broker repeats what it has no PUBACK for; only a message whose PUBACK is lost on the way is written again."""
    chance = random.Random(seed)
    held, inbox = HeldRecords(), Inbox(1 << 20)
    unacked: dict[int, bytes] = {}  # at the broker: packet id -> payload
    sent, arrived, written, unheard = 0, set[bytes](), list[bytes](), 0
    for _ in range(connections):
        sending = [message(packet_id, payload, again=True) for packet_id, payload in unacked.items()]
        for _ in range(chance.randrange(6)):
            sent += 1
            packet_id = next(number for number in range(1, 100) if number not in unacked)
            unacked[packet_id] = b"%d" % sent
            sending.append(message(packet_id, b"%d" % sent))
        received = sending[: chance.randrange(len(sending) + 1)]  # then the connection ends
        arrived |= {record.value for record in received}
        inbox.put(held.without_copies(received))
        if count := chance.randrange(len(inbox) + 1):
            chunk = asyncio.run(inbox.take(count, 1 << 20))
            written += [record.value for record in chunk if not record.written]
            for record in chunk:
                lost = record.packet_id and chance.random() < 0.2
                unheard += bool(lost)
                if record.packet_id and not lost:
                    assert unacked.pop(record.packet_id) == record.value
        inbox.orphan(held)
        if not kept:
            held.forget()
            unacked.clear()
    written += [record.value for record in inbox if not record.written]
    first = list(dict.fromkeys(written))
    assert set(first) == arrived
    assert [int(payload) for payload in first] == sorted(int(payload) for payload in first)
    assert len(written) - len(first) <= unheard
