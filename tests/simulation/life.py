"""A process of the simulation, its callbacks, and futures and tasks that are walked in the same order in every run."""

import asyncio
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.loop import SimLoop

LIFE: ContextVar["Life | None"] = ContextVar("life", default=None)
SERVERS = Context()  # where no life is set


class Life:
    """A process, from its start to its death. Nothing of the process runs after that, not even a `finally`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.zombie = False  # the process lost its partitions while it was stalled, and does not know yet
        self.parked: list[Handle] | None = None  # what became ready while it was stalled
        self.tasks: list[asyncio.Task[Any]] = []
        self.links: dict[Any, None] = {}  # connections of the process, which close with it; a dict has an order


class Handle:
    """A scheduled callback, as asyncio's own."""

    __slots__ = ("args", "callback", "context", "gone", "life", "when")

    def __init__(self, callback: Any, args: Any, context: Context) -> None:
        self.callback, self.args, self.context = callback, args, context
        self.life = context.get(LIFE)
        self.gone = False
        self.when = 0.0

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone


class SimFuture(asyncio.Future[Any]):
    """Hashed by number and not by address, so that sets of them are walked in the same order in every run."""

    def __init__(self, *, loop: "SimLoop") -> None:
        self.serial = next(loop.serials)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.serial


class SimTask(asyncio.Task[Any]):
    """The same for tasks."""

    def __init__(self, coro: Any, *, loop: "SimLoop", **options: Any) -> None:
        self.serial = next(loop.serials)
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.serial
