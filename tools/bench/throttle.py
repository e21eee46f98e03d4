"""A TCP proxy with a limit of bytes a second to the server, for a slow database."""

import asyncio
import contextlib
import threading
import time

CHUNK = 16 << 10


class Throttle:
    """A TCP proxy in a thread. `rate`: bytes a second to the server over all connections."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self.rate: float | None = None  # None: no limit
        self.passed = 0  # bytes to the server so far
        self._free_at = 0.0  # the earliest time of the next bytes at this rate
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start to listen."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Stop and close every connection."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        if tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._relay(reader, to_server[1], slow=True))
                both.create_task(self._relay(to_server[0], writer, slow=False))
        except* OSError:
            pass  # one side has closed, so both sides are closed
        finally:
            writer.close()
            to_server[1].close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slow: bool) -> None:
        while data := await reader.read(CHUNK if slow else CHUNK * 4):
            if slow:
                self.passed += len(data)
                await self._pay(len(data))
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _pay(self, size: int) -> None:
        if self.rate is None:
            return
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + size / self.rate
        await asyncio.sleep(self._free_at - now)
