"""The last failure of this process, for /health: in, each line of our own log; out, the failure's time and words.

What may be logged may be shown: no line holds a secret. The line of a failure has `error`, `reason` or `what`.
"""

from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

FAILURES = ("warning", "error", "critical")
WORDS = ("error", "reason", "what")
OF_SENDERS = ("dead_letters", "rules_refused", "login_refused")  # faults of senders: no failure of this process
LONGEST = 500  # characters


class LastError:
    """A processor of structlog; a process has a single LastError, as it has a single log."""

    def __init__(self) -> None:
        self._found: tuple[datetime, str] | None = None

    def __call__(self, _: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Note a line of `level` (warning, error, critical) that reports a failure, and return the line as it came.

        A warning counts only when it says why, in one of the fields WORDS.
        """
        event, words = str(line.get("event", "")), next((str(line[name]) for name in WORDS if line.get(name)), "")
        if level in FAILURES and (words or level != "warning") and event not in OF_SENDERS:
            said = f"{event}: {words}" if words else event
            self._found = datetime.now(UTC), said[:LONGEST]
        return line

    @property
    def shown(self) -> dict[str, str] | None:
        """{"at": ISO 8601 in UTC with milliseconds, "error": event and words, at most LONGEST characters}.

        None while nothing has failed.
        """
        return self._found and {"at": self._found[0].isoformat(timespec="milliseconds"), "error": self._found[1]}


LAST_ERROR = LastError()
