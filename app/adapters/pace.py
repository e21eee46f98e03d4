"""How often Kafka is asked for records: in, aiokafka's fetcher; out, the same one, that takes breath between requests.

It asks again as soon as an answer is taken, and Kafka answers as soon as there is one record. So at a thousand messages
a second it would ask hundreds of times a second for one or two records each, at half a millisecond of CPU a question.
An answer that comes late is not kept waiting: the pace counts from question to question.
"""

import asyncio
import time
from typing import Any

FETCH_SECONDS = 0.005  # from one request to a broker to the next


def take_breath(fetcher: Any, seconds: float = FETCH_SECONDS) -> None:
    """Let requests to the same broker follow one another after `seconds` at the earliest."""
    asked: dict[Any, float] = {}  # broker -> when it was asked last
    ask = fetcher._proc_fetch_request

    async def paced(assignment: Any, node_id: Any, request: Any) -> Any:
        wait = asked.get(node_id, 0.0) + seconds - time.monotonic()
        if wait > 0:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:  # as aiokafka answers it: nothing new
                return False
        asked[node_id] = time.monotonic()
        return await ask(assignment, node_id, request)

    fetcher._proc_fetch_request = paced
