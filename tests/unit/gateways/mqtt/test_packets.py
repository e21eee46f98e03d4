"""The wire reader: the same packets whatever the chunks, and one error whatever the bytes."""

from collections.abc import Sequence
from contextlib import suppress

import mqtt5
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import WireError
from app.gateways.mqtt.packets import MalformedPublish, Publish, Reader
from app.mqtt.frames import frame

LIMIT = 1 << 21


def publish(topic: str = "users/u/config", payload: bytes = b"{}", packet_id: int = 7, **more: object) -> bytes:
    """A PUBLISH with QoS 1 as it goes over the wire."""
    packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, **more)
    return bytes(packet.write())


def read(chunks: Sequence[bytes], limit: int = LIMIT) -> list[object]:
    """All items of a stream that comes in these chunks."""
    reader = Reader(limit)
    return [item for chunk in chunks for item in reader.feed(chunk)]


topics = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"),
    min_size=1,
    max_size=20,
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
messages = st.builds(
    Publish,
    topic=topics,
    payload=st.binary(max_size=300),
    packet_id=st.integers(1, 65535),
    properties=st.lists(st.tuples(texts, texts), max_size=3),
)


@given(st.lists(messages, max_size=8), st.data())
def test_any_chunking_gives_the_same_messages(sent: list[Publish], data: st.DataObject) -> None:
    stream = b"".join(
        publish(m.topic, m.payload, m.packet_id, user_properties=list(m.properties) or None) for m in sent
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(chunks) == sent
    assert read([stream[i : i + 1] for i in range(len(stream))]) == sent


# The codec panics on a CONNACK whose reason is not UTF-8, and Python reports that as well; no device can send one.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=5))
@example([b"\x30\x05\x00\x01\xffx"])
@example([b"\x20\x08\x00\x80\x05\x1f\x00\x02\xff\xff"])
def test_any_bytes_give_packets_or_the_one_error(chunks: list[bytes]) -> None:
    with suppress(WireError):
        read(chunks)


@settings(max_examples=150)
@given(st.data())
def test_a_changed_publish_never_raises_anything_else(data: st.DataObject) -> None:
    whole = bytearray(publish("users/ü/devices/d/telemetry", b"x" * 20, user_properties=[("traceparent", "ü")]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        for item in read([bytes(whole)]):
            assert not isinstance(item, Publish | MalformedPublish) or len(item.payload) <= len(whole)


def test_a_topic_that_is_not_utf8_keeps_its_payload_and_packet_id() -> None:
    whole = publish("users/u1/config", bytes(range(256)), 513).replace(b"users", b"us\xff\xfes")
    after = publish("iot/n/status", b"up", 514)
    assert read([whole + after]) == [
        MalformedPublish(b"us\xff\xfes/u1/config", bytes(range(256)), 513),
        Publish("iot/n/status", b"up", 514, []),
    ]


def test_a_user_property_that_is_not_utf8_keeps_the_message() -> None:
    whole = publish(payload=b"body", user_properties=[("a", "zzzz")]).replace(b"zzzz", b"\xff\xff\xff\xff")
    assert read([whole]) == [MalformedPublish(b"users/u/config", b"body", 7)]


def test_qos_0_has_no_packet_id() -> None:
    assert read([mqtt5.PublishPacket("a", b"\0").write()]) == [Publish("a", b"\0", 0, [])]


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"\x00\x00", "malformed packet"),
        (b"\x30\xff\xff\xff\xff\x7f", "remaining length"),
        (b"\x30\x80\x80\x80\x01", "were announced"),
        (mqtt5.PublishPacket("", b"", topic_alias=1).write(), "alias"),
        (mqtt5.PublishPacket("a", b"", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=1).write(), "QoS 2"),
        (b"\x32\x05\x00\x09abc", "malformed PUBLISH"),  # the topic's length reaches beyond the packet
        (b"\x32\x05\x00\x09abc" + b"\x30" * 50, "malformed PUBLISH"),  # and into the next one
    ],
)
def test_what_is_no_mqtt_is_named(stream: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        read([stream], limit=1 << 20)


def test_a_packet_above_the_limit_is_refused_before_it_is_read() -> None:
    head = publish(payload=b"x" * 5000)[:10]
    with pytest.raises(WireError, match=r"5\d\d\d bytes"):
        read([head], limit=4096)


@given(st.integers(0, 268_435_455))
def test_a_frame_is_recognised_by_its_first_bytes(remaining: int) -> None:
    encoded, rest = bytearray(), remaining
    while True:
        encoded.append((rest & 0x7F) | (0x80 if rest > 0x7F else 0))
        rest >>= 7
        if not rest:
            break
    head = b"\x30" + bytes(encoded)
    assert frame(b"??" + head, 2, 1 << 30) == (2 + len(head), 2 + len(head) + remaining)
    for short in range(1, len(head)):
        assert frame(head[:short], 0, 1 << 30)[1] == short + 1


def test_one_large_packet_in_small_chunks_is_copied_once() -> None:
    """Ten times the chunks, about ten times the work: no copy of what came before at each chunk."""
    reader, stream = Reader(1 << 25), publish(payload=b"x" * (1 << 24))
    for at in range(0, len(stream) - 1024, 1024):
        assert reader.feed(stream[at : at + 1024]) == []  # 16,384 chunks; a quadratic reader would move 134 GB
    assert len(reader.feed(stream[at + 1024 :])) == 1
