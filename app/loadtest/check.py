"""Everything that was sent against everything that is in the database: in, devices and tables; out, Findings."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from app.core.model.times import micros, moment
from app.loadtest.device import LoadDevice
from app.loadtest.findings import EXAMPLES, Findings
from app.loadtest.plan import NUMBERS, RULE_ID, ExpectedAlert, LoadPlan
from app.postgres.connect import Connection
from app.postgres.queries import load_rows
from app.postgres.queries.load_rows import SentDevices, StoredDevice, StoredTransition


class RunCheck:
    """The check of one run. The database compares the rows: what comes here is one line a device."""

    def __init__(self, plan: LoadPlan, devices: Sequence[LoadDevice]) -> None:
        self._plan = plan
        self._devices = [device for device in devices if device.sent]
        self.begin, self.end = map(moment, plan.span_us)
        self.found = Findings()

    async def look(self, connection: Connection) -> Findings:
        """Compare. Raises sqlstate.DATABASE_ERRORS."""
        await self._rows(connection)
        if self._plan.own_users:
            await self._alerts(connection)
        return self.found

    async def _rows(self, connection: Connection) -> None:
        found = await load_rows.compared(connection, self.begin, self.end, self._columns(self._devices), NUMBERS)
        stored = {one.number: one for one in found}
        for one in found:
            self._judge(one)
        short = [one for one in self._devices if _readings(stored, one) < one.sent]
        await self._missing(connection, short)
        self.found.stored = sum(one.readings for one in found)

    def _judge(self, one: StoredDevice) -> None:
        name, found = self._plan.name(one.number), self.found
        found.rows += one.rows
        if doubled := one.rows - one.strange - one.readings:
            found.doubled.add(doubled, [f"{doubled} of {name}"])
        if one.altered:
            examples = list(one.examples or ())[:EXAMPLES]
            found.altered.add(one.altered, [f"{name} {sequence}" for sequence in examples])
        if one.strange:
            found.strange.add(one.strange, [f"{one.strange} of {name}"])

    async def _missing(self, connection: Connection, short: Sequence[LoadDevice]) -> None:
        if not short:
            return
        open_readings = [(one.number, sequence) for one in short for sequence in (*one.unanswered(), *one.refused)]
        columns = self._columns(short)
        for one in await load_rows.missing(connection, self.begin, self.end, columns, open_readings):
            self.found.missing.add(one.count, [self._described(one.number, sequence) for sequence in one.examples])

    def _described(self, device: int, sequence: int) -> str:
        due = moment(self._plan.due_us(device, sequence))
        return f"{self._plan.user(device)}/{self._plan.name(device)} {sequence} of {due:%H:%M:%S.%f}Z"

    def _columns(self, devices: Iterable[LoadDevice]) -> SentDevices:
        rows = [(self._plan.user(one.number), one.name, one.number, one.sent) for one in devices]
        return SentDevices(*map(list, zip(*rows, strict=True))) if rows else SentDevices([], [], [], [])

    async def _alerts(self, connection: Connection) -> None:
        found, plan = self.found, self._plan
        found.alerts_expected = 0
        judged = {one.number: one for one in self._devices if not one.waiting and not one.refused}
        found.alerts_unjudged = len(self._devices) - len(judged)
        async for device, there in _by_device(load_rows.transitions(connection, plan.users, RULE_ID, plan.pattern)):
            number = plan.number(device)
            if one := judged.pop(number, None):
                self._judge_alerts(number, set(plan.alerts_of(number, one.sent)), there)
        for number, one in judged.items():
            self._judge_alerts(number, set(plan.alerts_of(number, one.sent)), {})

    def _judge_alerts(
        self, device: int, wanted: set[ExpectedAlert], there: Mapping[ExpectedAlert, StoredTransition]
    ) -> None:
        found, name = self.found, self._plan.name(device)
        found.alerts_expected = (found.alerts_expected or 0) + len(wanted)
        found.alerts_found += sum(one.count for one in there.values())
        found.alerts_published += sum(one.published for one in there.values())
        missing, strange = sorted(wanted - there.keys()), sorted(there.keys() - wanted)
        found.alerts_missing.add(len(missing), [_alert_words(name, one) for one in missing[:EXAMPLES]])
        found.alerts_unexpected.add(len(strange), [_alert_words(name, one) for one in strange[:EXAMPLES]])
        for one, seen in there.items():
            if seen.count > 1:
                found.alerts_unexpected.add(seen.count - 1, [f"{_alert_words(name, one)}, {seen.count} times"])


def _readings(stored: Mapping[int, StoredDevice], device: LoadDevice) -> int:
    one = stored.get(device.number)
    return one.readings if one else 0


def _alert_words(name: str, one: ExpectedAlert) -> str:
    return f"{name} {one.status} of {moment(one.event_us):%H:%M:%S.%f}Z"


async def _by_device(
    rows: AsyncIterator[StoredTransition],
) -> AsyncIterator[tuple[str, dict[ExpectedAlert, StoredTransition]]]:
    """The transitions of each device together, one device at a time."""
    name, there = "", dict[ExpectedAlert, StoredTransition]()
    async for row in rows:
        if row.device != name:
            if there:
                yield name, there
            name, there = row.device, {}
        there[ExpectedAlert(row.status, micros(row.event_time))] = row
    if there:
        yield name, there
