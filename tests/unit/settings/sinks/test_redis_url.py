"""URLs of Redis, valid and invalid."""

import re

import pytest

from app.runtime.addresses import HostPort
from app.settings.sinks.redis_url import RedisAddress, parsed

SECRET = "hunter2-not-for-logs"  # not a secret


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://cache", RedisAddress(HostPort("cache", 6379), "", False, "", "", 0)),
        (" redis://cache:7000/3\n", RedisAddress(HostPort("cache", 7000), "", False, "", "", 3)),
        ("REDISS://sink:a%23b%2Fc@cache/", RedisAddress(HostPort("cache", 6379), "", True, "sink", "a#b/c", 0)),
        ("redis://:only@[::1]:6380/0", RedisAddress(HostPort("::1", 6380), "", False, "", "only", 0)),
        ("unix:///run/redis/redis.sock", RedisAddress(None, "/run/redis/redis.sock", False, "", "", 0)),
    ],
)
def test_what_is_taken(url: str, found: RedisAddress) -> None:
    assert parsed(url) == found


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://cache", "redis://host"),
        ("cache:6379", "redis://host"),
        (f"redis://u:{SECRET}#x@cache", "percent-encode"),
        (f"redis://u:{SECRET}/x@cache", "percent-encode"),
        (f"redis://u:{SECRET}@x@cache", "percent-encode"),
        (f"redis://u:{SECRET}?x@cache", "%3F"),
        ("redis://cache?db=1", "parameters"),
        ("redis://cache/zero", "number"),
        (f"redis://cache:{SECRET}/0", "port"),
        ("redis://", "host name"),
        ("unix://run/redis.sock", "path"),
        (f"unix://u:{SECRET}@/run/redis.sock", "path"),
    ],
)
def test_what_is_refused_is_not_repeated(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        parsed(url)
    assert SECRET not in str(caught.value)


def test_an_address_is_shown_without_its_account() -> None:
    assert str(parsed(f"redis://u:{SECRET}@cache:7000/0")) == "cache:7000"
    assert str(parsed("unix:///run/redis.sock")) == "/run/redis.sock"
