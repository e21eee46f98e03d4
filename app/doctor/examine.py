"""All looks at once: in, the settings; out, every finding, in the order of the path."""

import asyncio
from collections.abc import Sequence

from app.doctor import count, database, dead_letters, kafka, mqtt
from app.doctor.finding import Finding
from app.doctor.programs import workers
from app.settings import Settings


async def examine(
    settings: Settings, metrics: Sequence[str] = (), watch: float = 0.0, newest: int = 0, more: Sequence[str] = ()
) -> list[Finding]:
    """Look at everything at once; findings in the order of the path. `metrics`: addresses of programs; `watch`: seconds
    between two looks at each worker, 0: one look; `newest`: records a partition to count, 0: none; `more`: addresses of
    metrics beside the one that the settings name.
    """
    looks = [kafka.look(settings), dead_letters.look(settings), database.look(settings), mqtt.look(settings)]
    looks.append(workers.look(settings, metrics, watch, more))
    if newest:
        looks.append(count.look(settings, newest))
    return [finding for found in await asyncio.gather(*looks) for finding in found]
