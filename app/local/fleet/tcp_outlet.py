"""Readings over TCP: a connection a user, a login line, then JSON lines; acks and refusals come back."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import PermanentError, TransientError
from app.local.fleet.gateway_fleet import Sample

PATIENCE = 30.0  # seconds for an answer
PASSING = ("unavailable", "slowed_down", "stopping", "too_many_connections")  # a login that may be taken another time


class TcpOutlet:
    """Connections to the TCP gateway at host:port, made when they are needed."""

    def __init__(self, address: str, passwords: Mapping[str, str]) -> None:
        """`address` is host:port; `passwords`: of each user. Raises ValueError for a port that is no number."""
        self._host, _, port = address.rpartition(":")
        self._port, self._passwords = int(port), passwords
        self._open: dict[str, _Connection] = {}

    async def send(self, samples: Sequence[Sample]) -> int:
        """Send the samples, those of all users at once; how many were refused. Raises TransientError, after which all
        samples are sent again (rows are stored once), and PermanentError when an account is refused.
        """
        users = {sample.user for sample in samples}
        parts = [self._send(user, [sample for sample in samples if sample.user == user]) for user in users]
        try:
            async with asyncio.timeout(PATIENCE):
                return sum(await asyncio.gather(*parts))
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            await self.close()
            where = f"{self._host}:{self._port}"
            raise TransientError(f"fleet: no answer of {where}: {error or type(error).__name__}") from error

    async def _send(self, user: str, samples: Sequence[Sample]) -> int:
        if user not in self._open:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            self._open[user] = _Connection(reader, writer)
            await self._open[user].login(user, self._passwords[user])
        return await self._open[user].send([sample.line() for sample in samples])

    async def close(self) -> None:
        """End all connections; the next samples make new ones."""
        open_, self._open = self._open, {}
        for connection in open_.values():
            await connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._sent, self._acked = reader, writer, 0, 0

    async def login(self, user: str, password: str) -> None:
        self._writer.write(json.dumps({"user": user, "password": password}).encode() + b"\n")
        said = await self._line()
        if said.get("reason") in PASSING:
            raise EOFError(str(said.get("error")))
        if said.get("ok") is not True:
            raise PermanentError(f"fleet: the TCP gateway refuses the account {user}: {said}")

    async def send(self, lines: Sequence[bytes]) -> int:
        self._writer.write(b"".join([line + b"\n" for line in lines]))
        await self._writer.drain()
        self._sent += len(lines)
        refused = 0
        while self._acked < self._sent:
            said = await self._line()
            refused += "line" in said
            self._acked = int(said.get("acked", self._acked))
        return refused

    async def _line(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection ended")
        said: dict[str, Any] = json.loads(line)
        return said

    async def close(self) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)
