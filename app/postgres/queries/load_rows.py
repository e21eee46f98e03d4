"""raw_telemetry and alert_history compared with what a load test has sent; the rows stay in the database."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from app.postgres.connect import Connection

EXAMPLES = 5
# The devices of the run with the number that the run gives each, and how many readings each has sent.
_SENT = "unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[]) AS sent (user_id, device_id, number, readings)"
_STORED = "raw_telemetry AS row JOIN sent USING (user_id, device_id) WHERE row.time >= $1 AND row.time <= $2"
# What app.loadtest.plan.payload writes, whatever columns the database has for it: the columns and extra_data together
# are compared with the fields of the payload. load_due_us has to be the row's time.
_HOT = "(row.sequence_id + sent.number * 37 - {hot_from} + {hot_every}) % {hot_every} < {hot_for}"
_INTACT = f"""(to_jsonb(row) - 'extra_data' || row.extra_data) @> jsonb_build_object(
    'temperature', CASE WHEN {_HOT} THEN {{hot_tenths}} ELSE {{cool_from}} +
      (row.sequence_id * 7 + sent.number * 13) % {{cool_tenths}} END / 10.0::float8,
    'battery', 1 + (row.sequence_id + sent.number) % 100,
    'load_due_us', (extract(epoch FROM row.time) * 1000000)::bigint,
    'load_sum', (row.sequence_id * {{sum_sequence}} + sent.number * {{sum_device}}) % {{sum_modulo}})"""
_COMPARED = f"""WITH sent AS MATERIALIZED (SELECT * FROM {_SENT}), judged AS MATERIALIZED (
  SELECT sent.number, row.sequence_id AS id, row.sequence_id BETWEEN 1 AND sent.readings AS own, {{intact}} AS intact
  FROM {_STORED})
SELECT number, count(*), count(DISTINCT id) FILTER (WHERE own), count(*) FILTER (WHERE NOT own),
  count(*) FILTER (WHERE NOT intact), (array_agg(id) FILTER (WHERE NOT intact))[1:{EXAMPLES}]
FROM judged GROUP BY number ORDER BY number"""  # noqa: S608
_MISSING = f"""WITH sent AS MATERIALIZED (SELECT * FROM {_SENT}), stored AS MATERIALIZED (
  SELECT sent.number, row.sequence_id FROM {_STORED})
SELECT sent.number, count(*), (array_agg(wanted.id ORDER BY wanted.id))[1:{EXAMPLES}]
FROM sent, generate_series(1, sent.readings) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM stored WHERE stored.number = sent.number AND stored.sequence_id = wanted.id)
  AND NOT EXISTS (SELECT FROM unnest($7::bigint[], $8::bigint[]) AS open (number, id)
                  WHERE open.number = sent.number AND open.id = wanted.id)
GROUP BY sent.number ORDER BY sent.number"""  # noqa: S608
_COUNTED = """SELECT floor(extract(epoch FROM time))::bigint, count(*) FROM raw_telemetry
WHERE time >= $1 AND time <= $2 AND user_id = ANY($3::text[]) AND device_id LIKE $4 GROUP BY 1"""
_SEEN = """SELECT asked.place FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[])
  WITH ORDINALITY AS asked (time, user_id, device_id, sequence_id, place)
JOIN raw_telemetry USING (time, user_id, device_id, sequence_id)"""
_ALERTS = """SELECT device_id, status, event_time, count(*), count(sent_at) FROM alert_history
WHERE user_id = ANY($1::text[]) AND rule_id = $2 AND status IN ('FIRING', 'RESOLVED') AND device_id LIKE $3
GROUP BY 1, 2, 3 ORDER BY 1"""
# The planner knows nothing about arrays, and would look at the whole time range for each device.
_HASHED = "SET LOCAL enable_nestloop = off"


class SentDevices(NamedTuple):
    """The devices of a run, as columns."""

    users: Sequence[str]
    names: Sequence[str]
    numbers: Sequence[int]
    readings: Sequence[int]  # that each has sent: its sequence ids are 1 to this


class StoredDevice(Struct, frozen=True):
    """What there is of one device."""

    number: int
    rows: int
    readings: int  # different sequence ids among those that were sent
    strange: int  # rows with a sequence id that was not sent
    altered: int  # rows whose content is not that of the reading
    examples: Sequence[int] | None  # sequence ids of altered rows


class MissingReadings(Struct, frozen=True):
    """Readings of one device that have no row."""

    number: int
    count: int
    examples: Sequence[int]


class StoredTransition(Struct, frozen=True):
    """A transition in alert_history."""

    device: str
    status: str
    event_time: datetime
    count: int
    published: int  # how many of them are acknowledged by the MQTT broker


async def compared(
    connection: Connection, begin: datetime, end: datetime, sent: SentDevices, numbers: dict[str, int]
) -> list[StoredDevice]:
    """What there is of each device, one object a device that has rows. `numbers`: those of app.loadtest.plan, by name.
    Raises sqlstate.DATABASE_ERRORS.
    """
    intact = _INTACT.format(**numbers)
    async with connection.transaction(readonly=True):
        await connection.execute(_HASHED)
        rows = await connection.fetch(_COMPARED.format(intact=intact), begin, end, *sent)
    return [StoredDevice(*row) for row in rows]


async def missing(
    connection: Connection, begin: datetime, end: datetime, sent: SentDevices, open_readings: Sequence[tuple[int, int]]
) -> list[MissingReadings]:
    """The readings without a row of these devices; `open_readings`, (device, sequence id), may be missing. Raises
    sqlstate.DATABASE_ERRORS.
    """
    columns = [number for number, _ in open_readings], [sequence for _, sequence in open_readings]
    async with connection.transaction(readonly=True):
        await connection.execute(_HASHED)
        rows = await connection.fetch(_MISSING, begin, end, *sent, *columns)
    return [MissingReadings(*row) for row in rows]


async def counted(
    connection: Connection, begin: datetime, end: datetime, users: Sequence[str], devices: str
) -> dict[int, int]:
    """Rows by the second of their time, seconds since 1970; `devices` is a pattern of LIKE. Raises DATABASE_ERRORS."""
    return dict(map(tuple, await connection.fetch(_COUNTED, begin, end, users, devices)))


async def seen(connection: Connection, keys: Sequence[tuple[datetime, str, str, int]]) -> list[int]:
    """The places of those keys in raw_telemetry's primary key that have a row. Raises DATABASE_ERRORS."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    return [row[0] - 1 for row in await connection.fetch(_SEEN, *columns)]


async def transitions(
    connection: Connection, users: Sequence[str], rule_id: str, devices: str
) -> AsyncIterator[StoredTransition]:
    """The openings and ends of alerts of a rule, device after device; `devices` is a pattern of LIKE. Raises
    DATABASE_ERRORS.
    """
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(_ALERTS, users, rule_id, devices, prefetch=5000):
            yield StoredTransition(*row)
