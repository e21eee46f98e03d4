"""Alert events into alert_history: in, events; out, which of them are on record, and whether anything is left to do."""

from collections.abc import Mapping
from functools import partial

import structlog

from app.notify import metrics
from app.notify.alert_records import AlertRecord
from app.notify.retrying import RetryingDatabase
from app.postgres import sqlstate
from app.postgres.queries import alert_history
from app.postgres.queries.alert_history import Key

log = structlog.get_logger()


async def note(database: RetryingDatabase, events: Mapping[Key, AlertRecord]) -> dict[Key, bool]:
    """Record the events that no worker has recorded; returns {key: whether it was sent, held back or left out before}.

    An event whose row the database refuses is not among the keys; the refusal is logged and counted. Waits out an
    outage of the database. Raises StoppedError when the program stops.
    """
    if not events:
        return {}
    known = await database.ask(partial(alert_history.settled, keys=list(events)))
    missing = {name: found for name, found in events.items() if name not in known}
    return known | dict.fromkeys(await _record(database, missing), False)


async def _record(database: RetryingDatabase, events: Mapping[Key, AlertRecord]) -> list[Key]:
    """Insert rows; returns the rows that the database did not refuse."""
    names, rows = list(events), [(found.event, found.text) for found in events.values() if found.event]
    if not names:
        return []
    try:
        await database.ask(partial(alert_history.record, events=rows))
    except sqlstate.DATABASE_ERRORS as error:  # of kind DATA: one of the rows
        if len(names) == 1:
            metrics.UNRECORDED.inc()
            log.error("notifier_unrecorded", alert_id=names[0][0], error=sqlstate.words(error))
            return []
        half = len(names) // 2
        first = await _record(database, {name: events[name] for name in names[:half]})
        return first + await _record(database, {name: events[name] for name in names[half:]})
    return names
