"""The consumer group's coordinator: who has which partition, in which generation, and whose commits count."""

import asyncio

from aiokafka.errors import CommitFailedError

from tests.simulation.kafka import Kafka
from tests.simulation.life import Life
from tests.simulation.world import World

SESSION_SECONDS = 10.0  # a member silent for this long is out
REBALANCE_SECONDS = 20.0  # so is one that has not joined by then
HEARTBEAT_SECONDS = 0.3  # a member learns of a rebalance within this time

Assignment = tuple[int, frozenset[int]]  # generation, partitions


class Group:
    """Eager rebalancing: everybody lets go of everything, joins, and is given partitions."""

    def __init__(self, world: World, kafka: Kafka) -> None:
        self._world, self._kafka = world, kafka
        self.generation = 0
        self.members: dict[Life, asyncio.Event] = {}  # with the event that is set at a rebalance
        self.owners: dict[int, Life] = {}
        self._heard: dict[Life, float] = {}  # when it sent a heartbeat last
        self._joined: dict[Life, asyncio.Future[Assignment]] = {}
        self._preparing = 0  # number of the rebalance under way, 0 for none
        self._rebalances = 0

    def join(self, life: Life, rebalance: asyncio.Event) -> asyncio.Future[Assignment]:
        """A member is ready for a new generation; the future's result is its part in it."""
        self.members[life] = rebalance
        life.zombie = False
        if not self._preparing:
            self.prepare()
        future: asyncio.Future[Assignment] = self._world.loop.create_future()
        self._joined[life] = future
        self._complete_if_all()
        return future

    def prepare(self) -> None:
        """Begin a rebalance, unless one is under way."""
        if self._preparing or not self.members:
            return
        self._rebalances += 1
        self._preparing = self._rebalances
        self._joined = {}
        self._world.note("group", "rebalance")
        for life in self.members:
            self._world.later(self._world.random.random() * HEARTBEAT_SECONDS, self._tell, life)
        self._world.later(REBALANCE_SECONDS, self._overdue, self._preparing)

    def rejoin(self, life: Life) -> None:
        """A member asks for a rebalance."""
        if life in self.members:
            self.prepare()

    def leave(self, life: Life) -> None:
        """The member leaves of its own will, or because it sends nothing any more."""
        if life not in self.members:
            return
        event = self.members.pop(life)
        self._joined.pop(life, None)
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner is not life}
        self._world.note("group", f"without {life.name}")
        life.zombie = True
        if not life.dead:  # the member learns of this with its next heartbeat
            self._world.later(self._world.random.random() * HEARTBEAT_SECONDS, event.set)
        if not self._preparing:
            self.prepare()
        elif self.members:
            self._complete_if_all()
        else:
            self._preparing = 0

    def is_at_work(self, life: Life) -> bool:
        """Whether it is a member of a generation, and none is being made."""
        return life in self.members and not self._preparing

    def heartbeat(self, life: Life) -> bool:
        """Whether it is a member; its session begins anew."""
        if life in self.members:
            self._heard[life] = self._world.loop.now
        return life in self.members

    def session_left(self, life: Life) -> float:
        """Seconds until a member that sends nothing any more is out."""
        return max(0.0, self._heard.get(life, self._world.loop.now) + SESSION_SECONDS - self._world.loop.now)

    def commit(self, life: Life, generation: int, offsets: dict[int, int], signatures: dict[int, str]) -> None:
        """Raises CommitFailedError for a member of another generation than the current one."""
        if life not in self.members or generation != self.generation:
            raise CommitFailedError("the group has already rebalanced")
        self._kafka.commit(offsets, signatures)

    def _tell(self, life: Life) -> None:
        if self._preparing and life in self.members and life not in self._joined:
            self.members[life].set()

    def _overdue(self, rebalance: int) -> None:
        if rebalance == self._preparing:
            for life in [member for member in self.members if member not in self._joined]:
                self.leave(life)

    def _complete_if_all(self) -> None:
        if set(self._joined) != set(self.members):
            return
        self._preparing = 0
        self.generation += 1
        members = list(self.members)
        first = int(self._world.random.random() * len(members))
        self.owners = {
            partition: members[(first + partition) % len(members)] for partition in range(self._kafka.partitions)
        }
        self._world.note("group", f"generation {self.generation}")
        for life, future in self._joined.items():
            if not future.done():
                future.set_result((self.generation, self._of(life)))
        self._joined = {}

    def _of(self, life: Life) -> frozenset[int]:
        return frozenset(partition for partition, owner in self.owners.items() if owner is life)
