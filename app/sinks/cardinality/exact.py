"""All known series: (device, field) in; out, the number of series of the sink and of each user.

Devices of the same make send the same fields, so they share one set of names: a series takes 30 to 180 bytes.
"""

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from msgspec import Struct

SHARED = 32  # names; a device with more has a set of its own, to which a name is added in constant time


class FieldSet(Struct, eq=False, weakref=True):
    """The known fields of a device, or of several devices with equal fields."""

    names: Any  # frozenset[str] when shared, set[str] of one device
    missing: tuple[str, ...]  # columns of the schema that are not among the names


class KnownSeries:
    """The series of one sink."""

    def __init__(self, columns: Iterable[str]) -> None:
        """`columns` of the schema, by their names in series."""
        self._columns = tuple(columns)
        self.devices: dict[str, FieldSet] = {}  # by device key; read-only outside of this class
        self._shared: WeakValueDictionary[frozenset[str], FieldSet] = WeakValueDictionary()
        self.count = 0
        self._of_users: Counter[str] = Counter()

    def of_user(self, user_id: str) -> int:
        """The number of the user's series."""
        return self._of_users.get(user_id, 0)

    @property
    def of_users(self) -> Mapping[str, int]:
        """The number of series of each user."""
        return self._of_users

    def knows(self, device: str, field: str) -> bool:
        """Whether the series is known."""
        known = self.devices.get(device)
        return known is not None and field in known.names

    def add(self, user_id: str, device: str, field: str) -> bool:
        """Add a series; False when the series was known before."""
        known = self.devices.get(device)
        if known is None:
            self.devices[sys.intern(device)] = self._set(frozenset((sys.intern(field),)))
        elif field in known.names:
            return False
        elif isinstance(known.names, set):
            known.names.add(field)
            known.missing = tuple(name for name in known.missing if name != field)
        elif len(known.names) < SHARED:
            self.devices[device] = self._set(frozenset((*known.names, sys.intern(field))))
        else:
            names = {*known.names, field}
            self.devices[device] = FieldSet(names, self._missing(names))
        self.count += 1
        self._of_users[user_id] += 1
        return True

    def _set(self, names: frozenset[str]) -> FieldSet:
        found = self._shared.get(names)
        if found is None:
            found = self._shared[names] = FieldSet(names, self._missing(names))
        return found

    def _missing(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(column for column in self._columns if column not in names)
