"""Who has changed what, and how much of it: a line of JSON at the begin and at the end of a command, where the settings
say: a file, a Kafka topic, or both.
"""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from app.errors import PermanentError, TransientError
from app.kafka.access import access
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.settings import Settings

SECONDS = 10.0  # for the topic to take a line
CLIENT = "iot-stream-audit"


class Audit:
    """The lines of one command. `counts` and `outcome` are those of its last line."""

    def __init__(self, settings: Settings, command: str, what: Mapping[str, Any]) -> None:
        """`what` was asked of the command, as JSON takes it."""
        self._settings = settings
        self._head = {"command": command, **_who(settings), "what": dict(what)}
        self.counts: Mapping[str, Any] = {}
        self.outcome = "failed"

    async def write(self, phase: str) -> None:
        """Write a line. Raises PermanentError or TransientError when it cannot be written."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "phase": phase, **self._head}
        if phase == "end":
            line |= {"outcome": self.outcome, "counts": self.counts}
        encoded = msgspec.json.encode(line)
        if self._settings.audit_file is not None:
            self._append(encoded)
        if self._settings.audit_topic is not None:
            await self._send(self._settings.audit_topic, encoded)

    def _append(self, line: bytes) -> None:
        path = self._settings.audit_file
        assert path is not None
        try:
            made = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(made, line + b"\n")  # one write: lines of several commands never mix
                os.fsync(made)
            finally:
                os.close(made)
        except OSError as error:
            raise PermanentError(f"cannot write the audit line to {path} (IOT_AUDIT_FILE): {error}") from error

    async def _send(self, topic: str, line: bytes) -> None:
        producer = Producer(access(self._settings), CLIENT, asyncio.Event())
        try:
            async with asyncio.timeout(SECONDS):
                await producer.send(topic, [OutgoingMessage(None, line, [], 0)])
        except TimeoutError:
            held = producer.writes.held.get(topic, "no ack comes")
            raise TransientError(
                f"cannot write the audit line to the topic {topic} (IOT_AUDIT_TOPIC): {held}"
            ) from None
        finally:
            await producer.stop()


@asynccontextmanager
async def audited(settings: Settings, command: str, what: Mapping[str, Any]) -> AsyncIterator[Audit]:
    """Write the first line, run the body, and write the last one, however the body ends. Raises PermanentError or
    TransientError before the body when the first line cannot be written: then nothing is done.
    """
    audit = Audit(settings, command, what)
    await audit.write("begin")
    try:
        yield audit
    except asyncio.CancelledError:  # Ctrl-C where nothing is finished in order
        audit.outcome = "interrupted"
        raise
    finally:
        await audit.write("end")


def _who(settings: Settings) -> dict[str, Any]:
    return {"who": settings.operator or _account(), "host": socket.gethostname(), "kafka_user": settings.kafka_username}


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
