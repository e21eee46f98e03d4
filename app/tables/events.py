"""What the device table reports, for logs and metrics. A listener must not raise."""

from typing import Protocol


class StateEvents(Protocol):
    """What happens to stored states."""

    def state_unreadable(self, partition: int, key: bytes, error: str) -> None:
        """What is stored under a key cannot be read: its device begins anew."""

    def states_moved(self, partition: int, states: int) -> None:
        """The changelog was made anew; all states of a partition, this many, are written into it now."""


class NoStateEvents:
    """Reports to nobody."""

    def state_unreadable(self, partition: int, key: bytes, error: str) -> None: ...
    def states_moved(self, partition: int, states: int) -> None: ...
