import mqtt5

from app.loadtest.wire import Puback
from tests.unit.loadtest.world import DeviceWorld


def packets(data: bytes) -> list[mqtt5.PublishPacket]:
    found = []
    while data:
        packet, size = mqtt5.read(memoryview(data))
        found.append(packet)
        data = data[size:]
    return found


def test_readings_go_out_in_order_and_at_most_a_window_is_unanswered() -> None:
    world = DeviceWorld()
    world.device.connected(world.write, 3, False)
    world.due(5)
    assert [one.packet_id for one in packets(world.written)] == [1, 2, 3]
    world.device.answered([Puback(1, 0), Puback(2, 0)])
    assert [one.packet_id for one in packets(world.written)] == [1, 2, 3, 4, 5]
    assert (world.traffic.sent, world.traffic.acked, world.device.waiting) == (5, 2, 3)


def test_what_has_no_answer_goes_out_again_byte_for_byte() -> None:
    world = DeviceWorld(ratio=1.0)
    world.device.connected(world.write, 10, False)
    world.due(3)
    first = packets(world.written)
    assert all(len(one.user_properties) == 1 for one in first)
    world.device.answered([Puback(2, 0)])
    world.device.lost()
    world.due(1)  # while nobody is connected
    for kept in (True, False):
        world.written = b""
        world.device.connected(world.write, 10, kept)
        again = packets(world.written)
        assert [(one.packet_id, one.duplicate) for one in again][:2] == [(1, kept), (3, kept)]
        assert [(one.payload, one.user_properties) for one in again[:2]] == [
            (one.payload, one.user_properties) for one in (first[0], first[2])
        ]
    assert world.traffic.resent == 5
    assert world.traffic.sent == 4, "each is sent once, however often"
    assert world.device.unanswered() == [1, 3, 4]


def test_nothing_is_sent_while_nobody_is_connected() -> None:
    world = DeviceWorld()
    world.due(7)
    assert (world.written, world.device.due, world.device.sent) == (b"", 7, 0)
    world.device.connected(world.write, 5, False)
    assert [one.duplicate for one in packets(world.written)] == [False] * 5
    assert world.traffic.resent == 0


def test_the_time_to_a_puback_begins_when_the_reading_was_due() -> None:
    world = DeviceWorld(rate=1)
    world.device.connected(world.write, 1, False)
    world.due(2)  # the second waits for the window
    world.now = 5.0
    world.device.answered([Puback(1, 0)])
    world.device.answered([Puback(2, 0)])
    world.traffic.taken()
    assert world.traffic.acks.highest == 5.0
    assert world.traffic.behind.highest == 4.0


def test_refusals_are_counted_by_the_brokers_word_and_kept_apart() -> None:
    world = DeviceWorld()
    world.device.connected(world.write, 10, False)
    world.due(3)
    world.device.answered([Puback(1, 0x87), Puback(2, 0x10), Puback(3, 0x97), Puback(9, 0)])
    assert world.traffic.refusals() == {"not authorized": 1, "quota exceeded": 1}
    assert (world.traffic.acked, world.traffic.nobody) == (1, 1)
    assert world.device.refused == [1, 3]
