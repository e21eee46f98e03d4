"""How many devices a worker keeps a state for: in, devices that are new; out, whether they get one.

A state costs memory, disk and a place in the changelog, and anybody who may publish may make devices up. A device that
has a state is never turned away; the reading of one that gets none is stored, and no rule and no watch looks at it.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from app.core.model.identity import bad_character
from app.core.model.namespaces import user_of
from app.core.processing.cached_device import Name, name_of

WORKER, TENANT = "worker", "tenant"

Over = Callable[[Name, str], None]  # a device is over a limit, by which it is: WORKER or TENANT


class DeviceLimit:
    """The limits of one worker, and which devices have a state, of the partitions that are its own now."""

    def __init__(self, of_worker: int, of_tenant: int, over: Over = lambda name, limit: None) -> None:
        """At most `of_worker` devices of the worker, `of_tenant` of each user; 0: no limit."""
        self._of_worker, self._of_tenant, self._over = of_worker, of_tenant, over
        self._known: dict[int, set[int]] = {}  # hashes of 64 bits: two of 100,000 are one in one of 3e9 cases
        self._of_users: Counter[str] = Counter()
        self.count = 0

    @property
    def of_users(self) -> Mapping[str, int]:
        """How many devices of each user have a state."""
        return self._of_users

    def begin_anew(self) -> None:
        """Other partitions are ours, or the same ones anew: what they hold is read again."""
        self._known, self._of_users, self.count = {}, Counter(), 0

    def stored(self, partition: int, key: bytes) -> None:
        """The state table has this key, of a device's state or, without its prefix, presence."""
        name = None if bad_character(key.decode(errors="replace")) else name_of(key)
        if name is not None and name[1]:
            self._note(partition, name)

    def admits(self, partition: int, name: Name, *, has_state: bool) -> bool:
        """Whether a device may have a state; `has_state`: it has one already."""
        if has_state or hash(name) in self._known.get(partition, ()):
            self._note(partition, name)
            return True
        if self._of_worker and self.count >= self._of_worker:
            self._over(name, WORKER)
        elif self._of_tenant and self._of_users.get(user_of(name[0]), 0) >= self._of_tenant:
            self._over(name, TENANT)
        else:
            self._note(partition, name)
            return True
        return False

    def _note(self, partition: int, name: Name) -> None:
        known, mark = self._known.setdefault(partition, set()), hash(name)
        if mark not in known:
            known.add(mark)
            self.count += 1
            self._of_users[user_of(name[0])] += 1
