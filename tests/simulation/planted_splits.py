"""Bugs in the batches that alert too much, of which the last records are left to the next batch."""

from app.core.batch.batch import Batch
from app.core.processing.batch_context import BatchContext
from app.core.processing.processor import Processor
from app.pipeline.batch_parts import SplitBatch
from app.pipeline.finalizer import StoredBatch
from app.pipeline.partition_queue import PartitionQueue
from app.pipeline.pipeline import Pipeline


class AcksAWholeWithItsFirstPart(Pipeline):
    async def _close(self, together: list[StoredBatch]) -> None:
        await super()._close(together)
        for one in together:
            if isinstance(one.batch, SplitBatch):
                await one.batch.whole.ack()


class LosesWhatIsLeftOver(Pipeline):
    async def _process_waiting(self, queue: PartitionQueue) -> None:
        queue.__class__ = _Forgetful
        await super()._process_waiting(queue)


class _Forgetful(PartitionQueue):
    def leave_over(self, batch: Batch, count: int) -> Batch:
        first = super().leave_over(batch, count)
        while self._waiting and self._waiting[0].first_offset < batch.next_offset:
            self._waiting.popleft()
        return first


class TellsBatchesByTheirEnd(Processor):
    def _begin(self, batch: Batch, now: float) -> BatchContext:
        context = super()._begin(batch, now)
        context.begin = context.output.begin = batch.next_offset
        return context
