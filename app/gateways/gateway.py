"""What a way in is to the program that runs the gateway: it starts, reports its state, stops without a loss."""

from collections.abc import Mapping
from typing import Protocol


class Gateway(Protocol):
    """One listener, or several of one kind; HTTP, TCP, gRPC, QUIC."""

    name: str  # as in the header `gateway` and the metrics' label

    async def start(self) -> None:
        """Listen. Raises MachineError, with the address and the cure, when it cannot, PermanentError for a
        certificate.
        """

    def ready(self) -> Mapping[str, bool]:
        """What of the gateway works, for /ready, such as {"http": True}."""

    async def stop(self, seconds: float) -> None:
        """Take no new work, answer what is in flight for at most so many seconds, close, remove sockets."""
