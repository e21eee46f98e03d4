"""Compressed bodies: what is whole comes out as it was, what is not is recognised, and no bomb goes off."""

import gzip
import os
import random
import tracemalloc
import zlib

import pytest
import zstandard

from app.gateways.http.inflate import CODINGS, MEMBERS, Inflation, NotInflated, gunzip, unzstd
from tests.fuzzing import INPUTS, broken

MOST = 4 << 20
PLAIN = b"".join(b'{"sequence_id":%d,"temperature":21.5}\n' % number for number in range(2000))


def streamed(plain: bytes) -> bytes:
    """A frame of zstd that does not say how much it holds, as who compresses while he reads makes it."""
    made = zstandard.ZstdCompressor().compressobj()
    return made.compress(plain) + made.flush()


WHOLE = {
    "gzip": gzip.compress(PLAIN),
    "gzip of members": gzip.compress(PLAIN[:100]) + gzip.compress(b"") + gzip.compress(PLAIN[100:]),
    "zstd": zstandard.ZstdCompressor(level=19).compress(PLAIN),
    "zstd, streamed": streamed(PLAIN),
}


def of(name: str, body: bytes, most: int = MOST) -> bytes | NotInflated:
    return (gunzip if name.startswith("gzip") else unzstd)(body, most)


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_whole_is_what_was_compressed_up_to_the_bound(name: str) -> None:
    body = WHOLE[name]
    assert of(name, body) == of(name, body, len(PLAIN)) == PLAIN
    found = of(name, body, len(PLAIN) - 1)
    assert isinstance(found, NotInflated)
    assert found.why is Inflation.TOO_LARGE


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cut", [1, 2, 5, 9, 100])
def test_what_is_cut_short_is_not_taken_for_less(name: str, cut: int) -> None:
    found = of(name, WHOLE[name][:-cut])
    assert isinstance(found, NotInflated)
    assert found.why is Inflation.MALFORMED


@pytest.mark.parametrize("name", WHOLE)
def test_what_follows_is_not_passed_over(name: str) -> None:
    assert isinstance(of(name, WHOLE[name] + b"more"), NotInflated)


@pytest.mark.parametrize("empty", [b"", b"\x1f\x8b", b"x" * 20, b"\x28\xb5\x2f\xfd"])
def test_what_is_none(empty: bytes) -> None:
    assert isinstance(gunzip(empty, MOST), NotInflated)
    assert isinstance(unzstd(empty, MOST), NotInflated)


def test_empty_bodies_may_be_compressed() -> None:
    assert gunzip(gzip.compress(b""), MOST) == unzstd(zstandard.ZstdCompressor().compress(b""), MOST) == b""


@pytest.mark.parametrize("name", ["gzip", "zstd", "zstd, streamed"])
def test_a_bomb_takes_no_more_memory_than_the_bound(name: str) -> None:
    bomb = {
        "gzip": lambda: gzip.compress(bytes(64 << 20)),
        "zstd": lambda: zstandard.ZstdCompressor().compress(bytes(64 << 20)),
        "zstd, streamed": lambda: streamed(bytes(64 << 20)),
    }[name]()
    assert len(bomb) < 70_000
    tracemalloc.start()
    found = of(name, bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(found, NotInflated)
    assert found.why is Inflation.TOO_LARGE
    assert peak < 3 * MOST


def test_a_frame_may_not_ask_for_more_memory_than_all_have() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    found = unzstd(made.compress(b"x" * 100) + made.flush(), MOST)
    assert isinstance(found, NotInflated)
    assert "memory" in found.detail


def test_members_that_hold_nothing_have_a_bound() -> None:
    assert gunzip(gzip.compress(b"") * MEMBERS, MOST) == b""
    assert isinstance(gunzip(gzip.compress(b"") * (MEMBERS + 1), MOST), NotInflated)


@pytest.mark.fuzz
def test_broken_bodies_are_inflated_within_the_bound_or_refused() -> None:
    seeds = [gzip.compress(PLAIN[:300]), streamed(PLAIN[:300]), zstandard.ZstdCompressor().compress(PLAIN[:300])]
    seeds += [zlib.compress(b"x"), gzip.compress(bytes(1000)) * 2, os.urandom(50)]
    tokens = [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x00", b"\xff\xff\xff\xff", b"\x50\x2a\x4d\x18\x04\x00\x00\x00"]
    outcomes = {"taken": 0, "refused": 0}
    chance = random.Random(3)
    for body in broken(seeds, tokens, INPUTS, seed=8):
        most = chance.choice((10, 500, 5000))
        for inflate in set(CODINGS.values()):
            found = inflate(body, most)
            outcomes["refused" if isinstance(found, NotInflated) else "taken"] += 1
            if isinstance(found, NotInflated):
                assert found.detail.isprintable()
            else:
                assert len(found) <= most
    assert min(outcomes.values()) > INPUTS / 20, outcomes
