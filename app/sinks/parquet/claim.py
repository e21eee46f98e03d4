"""Which process wrote which offsets of a partition: a chain of claims, each beginning where the claim before it ends.

    1 stage      write the rows as whole files, durable, under names that readers ignore
    2 claim      create a file named after its first offset, unless a file of that name exists
    3 publish    rename the staged files to their final names
    4            Kafka's commit, made by the runner

Two processes with the same records, such as a paused process and its successor, claim the same first offset: one claim
succeeds, and the other process drops its rows. The claim is the decision: if a process ends between 2 and 3, the next
reader of the chain does step 3 for it. So reading resumes at the end of the chain, and Kafka's commit may be older.

After a log was truncated (an unclean election, or a topic recreated on a broker without topic ids), other records come
under claimed offsets. Then this chain ends with a file, `cut`, and another chain begins at offset 0. Its rows below the
end of the first chain are compared with the first chain's files (repeats.py).
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from app.sinks.parquet.names import CLAIMS, LakePartition, claim_path, cut_path, parsed, staging_of, start_of
from app.sinks.parquet.stored import LakeStore

KEPT = 8  # claims; a process with rows for an older claim finds from the newest claim that it is late


class StagedFile(Struct, frozen=True):
    """A file of a claim."""

    staged: str
    path: str
    rows: int
    size: int  # bytes


class RangeClaim(Struct, frozen=True):
    """The claim of `writer` to have written the records from offset `start` up to `until`, exclusive."""

    start: int
    until: int
    writer: str
    files: Sequence[StagedFile]


class LogCut(Struct, frozen=True):
    """A note that the log was found to end before `until`, the end of a chain of claims."""

    until: int


_decode_claim = msgspec.json.Decoder(RangeClaim).decode
_decode_cut = msgspec.json.Decoder(LogCut).decode


class Chain:
    """The claims of one partition. All calls block, and raise OSError when the store is unavailable."""

    def __init__(self, store: LakeStore, origin: LakePartition, identity: str) -> None:
        """`identity` is the id of the topic; `origin` has its tag."""
        self._store, self.origin, self.identity = store, origin, identity
        self.position: int | None = None  # first offset of the next claim; None: not read yet
        self.found = False  # whether the chain has claims
        self.earlier: list[LakePartition] = []  # earlier chains, of logs that were truncated
        self.doubt = 0  # end of the earlier chains: a record before this offset may be in their files

    def load(self) -> int:
        """The first offset of the next claim. Publishes the files that the last claim left staged, and removes unused
        files.
        """
        self._follow_cuts()
        claims = self._claims()
        if not claims:
            self.position, self.found = 0, False
            return self.position
        last = _claim_at(self._store, claims[-1])
        self.publish(last)
        self.position, self.found = last.until, True
        self._tidy(claims, last)
        return self.position

    def cut(self) -> None:
        """The log was truncated: begin another chain, unless this chain has no claims. Of two processes that detect the
        truncation, one decides.
        """
        until = self.load()
        if self.found:
            self._store.put_new(cut_path(self.origin), msgspec.json.encode(LogCut(until)))
            self.position, self.found = None, False
            self.load()

    def take(self, claim: RangeClaim) -> bool:
        """Make a claim from `position`; False when another process was first. Safe to call again after OSError."""
        path = claim_path(self.origin, claim.start)
        if (
            not self._store.put_new(path, msgspec.json.encode(claim))
            and _claim_at(self._store, path).writer != claim.writer
        ):
            return False
        claims = self._claims()
        if claims[-1] != path:  # another process's claim was removed as an old claim: the chain is further on
            self._store.remove([path])
            return False
        self._store.remove(claims[:-KEPT])
        return True

    def publish(self, claim: RangeClaim) -> None:
        """Rename the files of a claim to their final names. Files that are no longer staged have been renamed."""
        for file in claim.files:
            self._store.move(file.staged, file.path)
        self.position, self.found = claim.until, True

    def drop(self, claim: RangeClaim) -> None:
        """Remove the staged files of a claim that another process made first."""
        self._store.remove(file.staged for file in claim.files)

    def _follow_cuts(self) -> None:
        while (note := self._store.read(cut_path(self.origin))) is not None:
            try:
                until = _decode_cut(note).until
            except msgspec.MsgspecError as error:
                raise OSError(f"{cut_path(self.origin)} cannot be read: {error}") from error
            self.earlier.append(self.origin)
            self.doubt, self.origin = max(self.doubt, until), self.origin.after_cut

    def _claims(self) -> list[str]:
        return [file.path for file in self._store.list(self.origin.claims) if start_of(file.path) is not None]

    def _tidy(self, claims: Sequence[str], last: RangeClaim) -> None:
        """Remove old claims, and staged files of a claimed offset that belong to another claim."""
        left = [
            file.path
            for file in self._store.list(self.origin.staging)
            if (start := start_of(file.path)) is not None
            and start <= last.start
            and not file.path.startswith(staging_of(self.origin, last.start, last.writer))
        ]
        self._store.remove([*claims[:-KEPT], *left])


def restore_claims(store: LakeStore) -> None:
    """Make a claim for each partition that has files and no claims, as in a lake that was copied without its claims.

    Safe to call again after OSError, which is raised when the store is unavailable.
    """
    ends: dict[LakePartition, tuple[int, int]] = {}
    for file in store.list():
        if name := parsed(file.path):
            first, until = ends.get(name.origin, (name.first, 0))
            ends[name.origin] = min(first, name.first), max(until, name.last + 1)
    claimed = {file.path.rpartition("/")[0] for file in store.list(CLAIMS) if start_of(file.path) is not None}
    for origin, (first, until) in ends.items():
        if origin.claims not in claimed:
            store.put_new(claim_path(origin, first), msgspec.json.encode(RangeClaim(first, until, "restored", ())))


def newest_claims(store: LakeStore) -> dict[tuple[str, str], RangeClaim]:
    """The last claim of each partition, by (topic with its tag, partition). Raises OSError."""
    newest: dict[tuple[str, str], str] = {}
    for file in store.list(CLAIMS):
        if start_of(file.path) is not None:
            _, topic, partition, _ = file.path.split("/")
            newest[topic, partition] = file.path
    return {place: _claim_at(store, path) for place, path in newest.items()}


def _claim_at(store: LakeStore, path: str) -> RangeClaim:
    try:
        return _decode_claim(store.read(path) or b"")
    except msgspec.MsgspecError as error:
        raise OSError(f"{path} is no claim: {error}; restore it, or remove it with all after it") from error
