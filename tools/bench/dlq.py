"""`iot-stream dlq` on a broker of its own: seconds to list dead letters, and letters a second that are put back.

`python -m tools.bench.dlq [letters]`, 100,000 by default; of 50 users and 1,000 devices. CPU is that of the command
alone; the broker has what is left of the machine.
"""

import asyncio
import json
import secrets
import sys
import time

from tests import servers
from tests.integration.dlq_rig import Rig
from tests.unit.deadletters.letters import held
from tests.unit.records import GOOD

LETTERS, PART = 100_000, 10_000


async def main(count: int) -> None:
    """Write the letters, then list and put back."""
    with servers.kafka() as kafka:
        rig = Rig(kafka.bootstrap, f"bench{secrets.token_hex(3)}", {})
        await rig.prepare()
        for first in range(0, count, PART):
            numbers = range(first, min(count, first + PART))
            await rig.write([held(GOOD, user=f"u{number % 50}", device=f"d{number % 1000}") for number in numbers])
        for words in (["ls"], ["replay"], ["replay", "--yes"], ["replay", "--yes", "--set", "battery=90"]):
            wall, cpu = time.perf_counter(), time.process_time()
            done = await rig.dlq(*words, "--json")
            assert done.code == 0, done.error
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            found = json.loads(done.out)
            assert found.get("letters", found.get("replayed")) == count
            each = f"{count / wall:>9,.0f}/s  {cpu / count * 1e6:5.1f} us of CPU a letter"
            print(f"{' '.join(words):<32} {wall:6.2f} s {each}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else LETTERS))
