"""The event loop of a worker: uvloop. With asyncio's own a reading was a row after 33 ms and not 23, at 1,000 messages
a second on two full cores (medians of tools/bench/latency.py, all else as it was).

Faust closes its loops when it stops, and its consumer thread may still call them: asyncio's own loop answers such a
call with an error that nobody sees, uvloop with a segmentation fault. So the loops are closed once no thread is left.
"""

import asyncio
import atexit

import uvloop


class Loop(uvloop.Loop):
    """A loop that is closed at the end of the process, and only looks closed to a caller that closes it before."""

    def close(self) -> None:
        """Close the loop at the end of the process: threads that are not daemons have ended when `atexit` comes."""
        atexit.register(super().close)


class LoopPolicy(uvloop.EventLoopPolicy):
    """Makes each new loop a Loop: Faust's loop, and the loop of the thread in which Faust talks to Kafka."""

    def _loop_factory(self) -> Loop:
        return Loop()


def use_uvloop() -> None:
    """Make every loop of this process a Loop from now on; a loop made before stays as it is."""
    asyncio.set_event_loop_policy(LoopPolicy())
