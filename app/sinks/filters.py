"""Which records a sink is given, and which fields of them: globs of the settings in, verdicts out."""

from collections.abc import Callable, Sequence
from typing import Any

from app.core.model.records import Kind
from app.core.rules.globs import Globs
from app.core.schema.schema import Schema
from app.settings import Settings
from app.sinks.fields import names_of, without
from app.sinks.record import SinkRecord

VERDICTS = 50_000  # names whose verdict is kept, at most 10 MB
ALL = ("*",)


class NameFilter:
    """Ids and globs, with the verdicts of the names that were asked for lately."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._globs = Globs(texts)
        self._verdicts: dict[str, bool] = {}

    def takes_in(self, name: str) -> bool:
        """Whether one of them takes in this name."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            if len(self._verdicts) >= VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[name] = self._globs.takes_in(name)
        return verdict


class FieldFilter:
    """Takes the fields that no glob takes in out of records of a schema."""

    def __init__(self, keys: Sequence[str], schema: Schema) -> None:
        """A column is meant by its own name, and by any JSON field that it is read from; what is nested by its path, or
        the path of an object that it is in.
        """
        self._names = NameFilter(keys)
        self._columns = {one.name: one.fields[0] for one in schema.columns}
        self._of_columns = {one.name: any(map(self._names.takes_in, (one.name, *one.fields))) for one in schema.columns}

    def apply(self, record: SinkRecord) -> SinkRecord | None:
        """The record with the fields that pass, its payload made anew of them; None when it has none of them."""
        names = names_of(record.reading, tuple(self._columns))
        left_out = {name for name in names if not self._takes_in(name)}
        if not left_out:
            return record
        return without(record, left_out, self._columns) if len(left_out) < len(names) else None

    def _takes_in(self, path: str) -> bool:
        verdict = self._of_columns.get(path)
        if verdict is not None:
            return verdict
        takes_in = self._names.takes_in
        return takes_in(path) or any(takes_in(path[:at]) for at, char in enumerate(path) if char == ".")


class RecordFilter:
    """The filters of one sink: a record has to pass all of them."""

    def __init__(self, settings: Settings) -> None:
        self.kinds = frozenset(settings.sink_kinds)
        self.telemetry = Kind.TELEMETRY in self.kinds
        users, devices = settings.sink_users, settings.sink_devices
        self._users = NameFilter(users) if users != ALL else None
        self._devices = NameFilter(devices) if devices != ALL else None
        keys = settings.sink_keys
        self.fields = FieldFilter(keys, settings.telemetry_schema) if keys != ALL else None

    @property
    def owners(self) -> Callable[[str, str], bool] | None:
        """The test of a user id and a device id; None when everybody's pass."""
        return None if self._users is None and self._devices is None else self._takes

    def _takes(self, user_id: str, device_id: str) -> bool:
        if self._users is not None and not self._users.takes_in(user_id):
            return False
        return self._devices is None or self._devices.takes_in(device_id)


def passing(fields: FieldFilter, records: Sequence[SinkRecord]) -> list[SinkRecord]:
    """The records that have fields which pass, with these alone; a record without a reading passes as it is."""
    found: list[Any] = [record if record.reading is None else fields.apply(record) for record in records]
    return [record for record in found if record is not None]
