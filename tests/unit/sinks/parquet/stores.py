"""Stores for tests: a store that ends the process, pauses or fails at any call."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from app.sinks.parquet.stored import LakeStore, StoredFile

T = TypeVar("T")


class DiedError(Exception):
    """Simulates the end of the process."""


def nothing() -> None:
    """Does nothing."""


class HookedStore:
    """Calls `before` and `after` around the call number `at`, from 0; an error that they raise ends the call."""

    def __init__(
        self, store: LakeStore, at: int, before: Callable[[], None] = nothing, after: Callable[[], None] = nothing
    ) -> None:
        self._store, self._at, self._before, self._after = store, at, before, after
        self.calls = 0

    def _call(self, call: Callable[[], T]) -> T:
        now, self.calls = self.calls == self._at, self.calls + 1
        if now:
            self._before()
        found = call()
        if now:
            self._after()
        return found

    def check(self) -> None:
        """As in LakeStore."""
        self._call(self._store.check)

    def put(self, path: str, content: Any) -> None:
        """As in LakeStore."""
        self._call(lambda: self._store.put(path, content))

    def put_new(self, path: str, content: bytes) -> bool:
        """As in LakeStore."""
        return self._call(lambda: self._store.put_new(path, content))

    def move(self, source: str, target: str) -> bool:
        """As in LakeStore."""
        return self._call(lambda: self._store.move(source, target))

    def read(self, path: str) -> bytes | None:
        """As in LakeStore."""
        return self._call(lambda: self._store.read(path))

    def list(self, folder: str = "") -> Sequence[StoredFile]:
        """As in LakeStore."""
        return self._call(lambda: self._store.list(folder))

    def remove(self, paths: Iterable[str]) -> None:
        """As in LakeStore."""
        self._call(lambda: self._store.remove(paths))

    def input(self, path: str) -> Any:
        """As in LakeStore."""
        return self._call(lambda: self._store.input(path))

    def alone(self) -> AbstractContextManager[bool]:
        """As in LakeStore."""
        return self._store.alone()


def die() -> None:
    """End the process. Raises DiedError."""
    raise DiedError
