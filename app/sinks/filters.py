"""Which records, and which of their fields, a sink is given: globs of the settings in, verdicts out."""

from collections.abc import Callable, Sequence
from typing import Any

from app.core.model.records import Kind
from app.core.rules.globs import Globs
from app.core.schema.schema import Schema
from app.settings import Settings
from app.sinks.fields import names_of, without
from app.sinks.record import SinkRecord

VERDICTS = 50_000  # cached verdicts of names, at most 10 MB
ALL = ("*",)


class NameFilter:
    """Ids and globs, with a cache of the verdicts on recent names."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._globs = Globs(texts)
        self._verdicts: dict[str, bool] = {}

    def takes_in(self, name: str) -> bool:
        """Whether an id or a glob matches this name."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            if len(self._verdicts) >= VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[name] = self._globs.takes_in(name)
        return verdict


class FieldFilter:
    """Removes the fields that no glob matches from records of a schema."""

    def __init__(self, keys: Sequence[str], schema: Schema) -> None:
        """`keys` match a column by its name or by any JSON field that the column is read from, and a nested field by
        its path or by the path of an object around it.
        """
        self._names = NameFilter(keys)
        self._columns = {one.name: one.fields[0] for one in schema.columns}
        self._of_columns = {one.name: any(map(self._names.takes_in, (one.name, *one.fields))) for one in schema.columns}

    def apply(self, record: SinkRecord) -> SinkRecord | None:
        """The record with the fields that pass, and a new payload of these; None when no field passes."""
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
        """The test of a user id and a device id; None when all users and devices pass."""
        return None if self._users is None and self._devices is None else self._takes

    def _takes(self, user_id: str, device_id: str) -> bool:
        if self._users is not None and not self._users.takes_in(user_id):
            return False
        return self._devices is None or self._devices.takes_in(device_id)


def passing(fields: FieldFilter, records: Sequence[SinkRecord]) -> list[SinkRecord]:
    """The records with at least one field that passes, without their other fields; a record without a reading passes
    unchanged.
    """
    found: list[Any] = [record if record.reading is None else fields.apply(record) for record in records]
    return [record for record in found if record is not None]
