"""Faust's table recovery, patient: an outage of Kafka in the middle of it is waited out."""

from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


class PatientRecovery(Recovery):  # type: ignore[misc]
    """Faust takes the end of a step's time limit for the end of the process, and would never recover again."""

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        await super()._wait(coro)


class Tables(TableManager):  # type: ignore[misc]
    """A table manager with a PatientRecovery."""

    @property
    def recovery(self) -> Recovery:
        """The recovery service, made on first use."""
        if self._recovery is None:  # type: ignore[has-type]
            self._recovery = PatientRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
