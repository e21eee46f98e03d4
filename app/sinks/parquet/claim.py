"""Who wrote which offsets of a partition: a claim, and the chain of claims, each from where the one before it ends.

    1 stage      the rows as whole files, durable, under names that nobody reads
    2 claim      a file with the offset it is from as its name, which is made only if there is none of that name
    3 publish    the staged files get their names
    4            Kafka's commit, which the runner makes

Two processes that hold the same records, as one that was paused and the one that has taken over from it, are from the
same offset: one claim is made, and the other process lets its rows go. A process that ends between 2 and 3 has decided
all the same: whoever reads the chain next does step 3 for it. So the chain says where reading goes on, and Kafka's
commit may be older.

Where a log has lost its end (an unclean election, or a topic made anew where the broker gives no ids), other records
come under offsets that are claimed. Then this chain ends with a note, `cut`, and another one begins at offset 0, whose
rows below the end of the first are compared with its files (repeats.py).
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from app.sinks.parquet.names import CLAIMS, LakePartition, claim_path, cut_path, parsed, staging_of, start_of
from app.sinks.parquet.stored import LakeStore

KEPT = 8  # claims; whoever holds rows for an older one learns from the newest that it is late


class StagedFile(Struct, frozen=True):
    """A file that a claim is about."""

    staged: str
    path: str
    rows: int
    size: int  # bytes


class RangeClaim(Struct, frozen=True):
    """That `writer` has written what the topic has from `start` up to `until`, which is not included."""

    start: int
    until: int
    writer: str
    files: Sequence[StagedFile]


class LogCut(Struct, frozen=True):
    """That the log was found to end before `until`, where a chain of claims ended."""

    until: int


_decode_claim = msgspec.json.Decoder(RangeClaim).decode
_decode_cut = msgspec.json.Decoder(LogCut).decode


class Chain:
    """The claims of one partition. All calls block, and raise OSError when the store cannot be asked now."""

    def __init__(self, store: LakeStore, origin: LakePartition, identity: str) -> None:
        """`identity` is the id of the topic; `origin` has its tag."""
        self._store, self.origin, self.identity = store, origin, identity
        self.position: int | None = None  # where the next claim is from; None: not read yet
        self.found = False  # whether there was anything of this partition
        self.earlier: list[LakePartition] = []  # the chains before this one, of logs that have lost their end
        self.doubt = 0  # where those ended: a record before this offset may be in their files

    def load(self) -> int:
        """Where the next claim is from. Publishes what the last one left staged, and removes what is of no use."""
        self._follow_cuts()
        claims = self._claims()
        if not claims:
            self.position = self._after_files()
            return self.position
        last = _claim_at(self._store, claims[-1])
        self.publish(last)
        self.position, self.found = last.until, True
        self._tidy(claims, last)
        return self.position

    def cut(self) -> None:
        """The log has lost its end: let another chain begin, unless nothing is claimed of this one. Of two processes
        that find it out, one decides.
        """
        until = self.load()
        if self.found:
            self._store.put_new(cut_path(self.origin), msgspec.json.encode(LogCut(until)))
            self.position, self.found = None, False
            self.load()

    def take(self, claim: RangeClaim) -> bool:
        """Make a claim from `position` on; False when another process was first. Safe to call again after OSError."""
        path = claim_path(self.origin, claim.start)
        if (
            not self._store.put_new(path, msgspec.json.encode(claim))
            and _claim_at(self._store, path).writer != claim.writer
        ):
            return False
        claims = self._claims()
        if claims[-1] != path:  # that of another process was removed as an old one: the chain has gone on
            self._store.remove([path])
            return False
        self._store.remove(claims[:-KEPT])
        return True

    def publish(self, claim: RangeClaim) -> None:
        """Give the files of a claim their names. Those that are staged no longer have theirs already."""
        for file in claim.files:
            self._store.move(file.staged, file.path)
        self.position, self.found = claim.until, True

    def drop(self, claim: RangeClaim) -> None:
        """Remove what was staged for a claim that another process was first with."""
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

    def _after_files(self) -> int:
        """Where the files themselves end, for a lake whose claims somebody has removed; 0 for a new partition."""
        if any(start_of(file.path) is not None for file in self._store.list(CLAIMS)):
            return 0
        names = [name for file in self._store.list() if (name := parsed(file.path)) and name.origin == self.origin]
        self.found = bool(names)
        return max((name.last + 1 for name in names), default=0)

    def _tidy(self, claims: Sequence[str], last: RangeClaim) -> None:
        """Remove old claims, and what was staged from an offset that is claimed by now and is not of its claim."""
        left = [
            file.path
            for file in self._store.list(self.origin.staging)
            if (start := start_of(file.path)) is not None
            and start <= last.start
            and not file.path.startswith(staging_of(self.origin, last.start, last.writer))
        ]
        self._store.remove([*claims[:-KEPT], *left])


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
