"""The Kafka key of a device, and the bounds of the caches that go by topic or key."""


def device_key(user_id: str, device_id: str) -> bytes:
    """`user/device` as UTF-8, the Kafka key of a device's telemetry."""
    return _encode(f"{user_id}/{device_id}")


def _encode(text: str) -> bytes:
    # MQTT forbids lone surrogates, but a topic may also come from elsewhere, and this function must not raise.
    return text.encode("utf-8", "surrogatepass")


# A route takes 0.7 us to compute and 0.2 us to look up. Longer topics are not kept, so that the cache stays below
# 2 kB x CACHED_TOPICS, 64 MB, whatever is published.
CACHED_TOPICS = 32_768


CACHED_LENGTH = 256
