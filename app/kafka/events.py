"""What the producers report, for logs and metrics. A listener must not raise."""

from typing import Protocol


class WriteEvents(Protocol):
    """What happens to the writes to a topic."""

    def write_held(self, topic: str, attempts: int, error: str, cure: str | None) -> None:
        """`attempts` tries in a row failed; more follow. `cure`: what an operator must do if waiting does not help."""

    def write_resumed(self, topic: str) -> None:
        """A write went through again, or nobody waits for a write any more."""


class NoWriteEvents:
    """Reports to nobody."""

    def write_held(self, topic: str, attempts: int, error: str, cure: str | None) -> None: ...
    def write_resumed(self, topic: str) -> None: ...
