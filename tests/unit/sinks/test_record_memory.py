"""The estimate of the memory that records take, against the memory that they take."""

import gc
import tracemalloc
from typing import Any

import pytest

from app.settings import Settings
from app.sinks.decode import SinkDecoder
from app.sinks.record_memory import memory
from tests.sink_records import message


@pytest.mark.parametrize("fields", [0, 10, 1000, 30_000])
def test_the_estimate_is_not_far_from_the_memory_that_is_taken(fields: int) -> None:
    more: dict[str, Any] = {f"{number:x}": number for number in range(fields)}
    decoder = SinkDecoder(Settings(_env_file=None))
    decoder.decode(0, [message(0, **more)])
    count = 300 if fields < 100 else 3
    gc.collect()
    tracemalloc.start()
    try:
        records = decoder.decode(0, [message(number, **more) for number in range(count)])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(records) == count
    assert 0.9 * taken < memory(records) < 3 * taken
