"""The gauge of records that wait, for the partitions this worker has now."""

from collections.abc import Mapping

from faust.types import TP

from app.ops import metrics


def tell(waiting: Mapping[TP, int]) -> None:
    """Set the lag of each partition, in records; one that has gone to another worker is no longer told here.

    A partition left behind would count twice in the sum over all workers, with the number it had when it went.
    """
    metrics.LAG.clear()
    for tp, records in waiting.items():
        metrics.LAG.labels(str(tp.partition)).set(max(0, records))
