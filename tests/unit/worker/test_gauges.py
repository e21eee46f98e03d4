"""The lag that a worker exports is that of the partitions it has; the space left that of its volume."""

import math
import shutil
from pathlib import Path

import pytest
from faust.types import TP

from app.ops import metrics
from app.worker import gauges


def reported() -> dict[str, float]:
    """Partition -> what the gauge says."""
    (family,) = metrics.LAG.collect()
    return {sample.labels["partition"]: sample.value for sample in family.samples}


def test_a_partition_that_went_is_no_longer_exported() -> None:
    gauges.set_lag({TP("t", 0): 7, TP("t", 1): 12})
    assert reported() == {"0": 7, "1": 12}
    gauges.set_lag({TP("t", 1): 3})
    assert reported() == {"1": 3}
    gauges.set_lag({})
    assert reported() == {}


def test_an_end_that_was_read_before_the_batch_was_done_is_no_debt() -> None:
    gauges.set_lag({TP("t", 0): -5})
    assert reported() == {"0": 0}
    gauges.set_lag({})


def test_the_free_space_is_that_of_the_file_system(tmp_path: Path) -> None:
    def free() -> float:
        (family,) = metrics.STATE_DIR_FREE.collect()
        return family.samples[0].value

    gauges.watch_disk(tmp_path)
    assert free() == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    gauges.watch_disk(tmp_path / "not there yet")
    assert math.isnan(free())
