"""Whether the table has the columns of the settings' schema: asked when a worker starts, until the table has them.

A column of another type would be filled with what the database makes of the value: nothing is stored before.
"""

from collections.abc import Sequence

import structlog
from mode import Service

from app.errors import IotStreamError
from app.postgres.connect import operator_session
from app.postgres.schema import telemetry_table
from app.settings import Settings

log = structlog.get_logger()

SECONDS = 2.0  # between two looks


async def wait_for_schema(settings: Settings, service: Service) -> bool:
    """Look every SECONDS, and log what differs and what to do, until nothing does: True. False when the service stops
    before. A table that is missing, and an outage, are waited out.
    """
    reported: Sequence[telemetry_table.Difference] = ()
    while not service.should_stop:
        try:
            async with operator_session(settings, "schema") as connection:
                # The store reports a table that is missing.
                found = (
                    await telemetry_table.differences(connection, settings.telemetry_schema)
                    if await telemetry_table.exists(connection)
                    else ()
                )
        except IotStreamError as error:
            log.warning("schema_unknown", error=str(error))
        else:
            if not found:
                return True
            for one in found if found != reported else ():
                log.error("schema_differs", column=one.column, what=one.what, cure=one.cure)
            reported = found
        await service.sleep(SECONDS)
    return False
