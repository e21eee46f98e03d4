"""Key -> partition as every producer here computes it, remembered for the keys in use, within a bound in bytes."""

from zlib import crc32

from app.kafka.messages import key_partition

REMEMBERED_BYTES = 32 << 20  # some 200,000 keys of devices; whoever invents ids only makes it begin anew
ENTRY = 140  # bytes a key takes beside its own, by tracemalloc
# Ids of more than 2048 bytes are refused (`key_too_long`), so that longer keys are no device's and have no order to
# keep: murmur2, which is Python, would take 16 ms for the longest topic there can be.
LONGEST = 2100


class PartitionCache:
    """The partitions of the keys of one topic, for as long as it has so many partitions."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self._bytes = 0
        self._count = 0

    def resize(self, count: int) -> bool:
        """Note that the topic has `count` partitions; whether that is something new."""
        if count == self._count:
            return False
        self._count = count
        self._forget()
        return True

    def of(self, key: bytes) -> int:
        """The partition of a key. `resize` comes first: else raises ZeroDivisionError."""
        partition = self._known.get(key)
        if partition is None:
            partition = self._compute(key)
        return partition

    def of_all(self, keys: list[bytes]) -> list[int]:
        """The partitions of keys; as `of`."""
        try:
            return list(map(self._known.__getitem__, keys))
        except KeyError:
            return [self.of(key) for key in keys]

    def _compute(self, key: bytes) -> int:
        if len(key) > LONGEST:
            return crc32(key) % self._count
        partition = key_partition(key, self._count)  # 2 us for 8 bytes
        self._remember(key, partition)
        return partition

    def _remember(self, key: bytes, partition: int) -> None:
        if self._bytes > REMEMBERED_BYTES:
            self._forget()
        self._bytes += len(key) + ENTRY
        self._known[key] = partition

    def _forget(self) -> None:
        self._known.clear()
        self._bytes = 0
