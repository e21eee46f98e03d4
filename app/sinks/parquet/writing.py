"""Closed rows of one partition to files of the lake: staged, claimed, published. Blocks; runs in the writing thread of
a sink, the only thread that uses these objects.
"""

import uuid
from collections.abc import Sequence

import structlog

from app.sinks.parquet.claim import Chain, RangeClaim, StagedFile
from app.sinks.parquet.columns import FileLayout
from app.sinks.parquet.day_file import EncodedFile, cut_below
from app.sinks.parquet.names import FileName, folder_of, staging_of
from app.sinks.parquet.repeats import without_repeats
from app.sinks.parquet.stored import LakeStore

log = structlog.get_logger()


class RowWriter:
    """Writes the rows of one claim. After an OSError the call is retried, and resumes where it failed."""

    def __init__(self, store: LakeStore, chain: Chain, layout: FileLayout) -> None:
        self._store, self._chain, self._layout = store, chain, layout
        self._writer = uuid.uuid4().hex[:8]  # identifies these rows of this process
        self._claim: RangeClaim | None = None
        self._done = False

    def write(self, files: Sequence[EncodedFile], until: int) -> int:
        """Publish the files without the rows that another process has written; returns the bytes of the files.

        `until` is the offset after the last record, with or without a row. Raises OSError.
        """
        chain = self._chain
        while not self._done:
            start = chain.position if chain.position is not None else chain.load()
            cut = [kept for file in files if (kept := cut_below(file, start, self._layout))]
            left = [kept for file in cut if (kept := without_repeats(file, self._store, chain, self._layout))]
            if not left:
                self._done = True
                return 0
            if self._claim is None or self._claim.start != start:
                self._claim = self._stage(left, start, until)
            if chain.take(self._claim):
                chain.publish(self._claim)
                self._done = True
            else:
                chain.drop(self._claim)
                until_there = chain.load()
                log.warning("parquet_claim_lost", partition=chain.origin.partition, offset=start, until=until_there)
        return sum(file.size for file in self._claim.files) if self._claim else 0

    def _stage(self, files: Sequence[EncodedFile], start: int, until: int) -> RangeClaim:
        begin = staging_of(self._chain.origin, start, self._writer)
        staged = []
        for file in files:
            name = FileName(folder_of(file.day), self._chain.origin, file.footer.first, file.footer.last, False)
            one = StagedFile(f"{begin}{file.day}.tmp", name.path, file.footer.rows, len(memoryview(file.content)))
            self._store.put(one.staged, file.content)
            staged.append(one)
        return RangeClaim(start, until, self._writer, staged)
