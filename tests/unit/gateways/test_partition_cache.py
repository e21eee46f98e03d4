"""Where a key goes: as every other producer says, in bounded memory."""

import os
import time
import tracemalloc

from aiokafka.partitioner import murmur2

from app.gateways import partition_cache
from app.gateways.partition_cache import LONGEST, REMEMBERED_BYTES, PartitionCache


def test_a_device_s_partition_is_that_of_all_producers() -> None:
    made = PartitionCache()
    assert made.resize(12)
    assert not made.resize(12)
    for key in (b"u/d", "ü/✓".encode(), b"u/" + b"d" * 2048):
        assert made.of(key) == made.of(key) == (murmur2(key) & 0x7FFFFFFF) % 12
    assert made.resize(7)
    assert made.of(b"u/d") == (murmur2(b"u/d") & 0x7FFFFFFF) % 7


def test_the_longest_key_there_can_be_takes_no_time() -> None:
    made, key = PartitionCache(), b"x" * 65_535
    made.resize(12)
    began = time.process_time()
    assert len({made.of(key + b"%d" % n) for n in range(500)}) == 12
    assert time.process_time() - began < 1.0, "8 s by murmur2"
    assert LONGEST > 2049, "user, slash and device of the longest ids there may be"


def test_keys_made_up_take_a_bounded_memory() -> None:
    made = PartitionCache()
    made.resize(12)
    count = 2 * REMEMBERED_BYTES // 1000
    tracemalloc.start()
    for _ in range(count):
        made._remember(os.urandom(860), 3)  # computing each would take this test 20 s
    used, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(used, most) < 1.3 * partition_cache.REMEMBERED_BYTES
