"""The sender's side of MQTT 5, against the codec of the tests."""

from collections import Counter

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import WireError
from app.loadtest import wire
from tests.fuzzing import INPUTS, broken

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CODES = [
    mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS,
    mqtt5.PubAckReasonCode.NOT_AUTHORIZED,
    mqtt5.PubAckReasonCode.QUOTA_EXCEEDED,
]

SEEDS = [
    mqtt5.ConnAckPacket(receive_max=20, reason_str="welcome").write(),
    mqtt5.PubAckPacket(7).write() + mqtt5.PubAckPacket(8, reason_code=CODES[1], reason_str="no").write(),
    mqtt5.DisconnectPacket(reason_str="bye").write() + mqtt5.PingRespPacket().write(),
]
TOKENS = [b"\x40\x02\x00\x01", b"\x20", b"\xff\xff\xff\x7f", b"\x80", b"\x00", b"\xc3", b"\x26", b"\xd0\x00"]


@given(st.text(min_size=1, max_size=300), st.integers(1, wire.IDS), st.binary(max_size=40_000), st.booleans())
def test_a_publish_is_what_another_codec_reads(topic: str, number: int, payload: bytes, traced: bool) -> None:
    try:
        field = wire.topic_field(topic)
    except UnicodeEncodeError:
        return
    properties = wire.traceparent_field(TRACEPARENT) if traced else wire.NO_PROPERTIES
    packet = wire.publish(field, number, payload, properties)
    for made, repeated in ((packet, False), (wire.again(packet), True)):
        found, size = mqtt5.read(memoryview(made))
        assert size == len(made)
        assert isinstance(found, mqtt5.PublishPacket)
        assert (found.topic, found.packet_id, found.payload) == (topic, number, payload)
        assert (found.qos, found.retain, found.duplicate) == (mqtt5.QoS.AT_LEAST_ONCE, False, repeated)
        assert found.user_properties == ([("traceparent", TRACEPARENT.decode())] if traced else [])


@given(
    st.lists(st.tuples(st.integers(1, wire.IDS), st.sampled_from([None, *CODES]), st.text("ab", max_size=200))),
    st.data(),
)
def test_answers_are_read_whatever_the_chunks(answers: list[tuple[int, object, str]], data: st.DataObject) -> None:
    packets = [
        mqtt5.PubAckPacket(number).write()
        if code is None
        else mqtt5.PubAckPacket(number, reason_code=code, reason_str=said or None).write()
        for number, code, said in answers
    ]
    stream = b"".join([*packets, mqtt5.PingRespPacket().write()])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    cutter, found = wire.PacketCutter(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += cutter.feed(stream[begin:end])
    assert isinstance(found.pop(), mqtt5.PingRespPacket)
    assert found == [(number, 0 if code is None else code.value) for number, code, _ in answers]  # type: ignore[attr-defined]


# The codec panics on text of a broker that is not UTF-8, and Python reports that as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.fuzz
def test_bytes_of_a_broker_are_packets_or_a_wire_error() -> None:
    outcomes: Counter[str] = Counter()
    for stream in broken(SEEDS, TOKENS, INPUTS, seed=5):
        try:
            outcomes["packets"] += len(wire.PacketCutter().feed(stream))
        except WireError:
            outcomes["errors"] += 1
    assert min(outcomes["packets"], outcomes["errors"]) > INPUTS / 20


def test_a_packet_beyond_all_measure_is_refused_before_it_is_kept() -> None:
    with pytest.raises(WireError, match="at most 65536 were announced"):
        wire.PacketCutter().feed(b"\x30\xff\xff\xff\x7f")


def test_packet_ids_of_a_window_differ() -> None:
    assert len({wire.packet_id(sequence) for sequence in range(65_000, 66_000)}) == 1000
    assert {wire.packet_id(sequence) for sequence in (1, 65_535, 65_536)} == {1, 65_535}


def test_a_connect_goes_on_with_the_session_and_a_farewell_ends_it() -> None:
    found, _ = mqtt5.read(memoryview(wire.connect("d", "u", "p", 60, 3600)))
    assert (found.client_id, found.username, found.password, found.keep_alive) == ("d", "u", b"p", 60)
    assert (found.clean_start, found.session_expiry_interval) == (False, 3600)
    gone, _ = mqtt5.read(memoryview(wire.farewell()))
    assert gone.session_expiry_interval == 0


def test_a_topic_that_no_packet_holds_is_an_error() -> None:
    with pytest.raises(ValueError, match="70000 bytes"):
        wire.topic_field("x" * 70_000)
