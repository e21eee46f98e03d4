"""What a batch asks of the database beside its rows, and what came of it.

An Effect is a statement from a closed set and its arguments; the store carries it out after the rows, in the same
transaction. WriteResult is the database's answer, counted from what the database itself reports.
"""

from enum import StrEnum
from typing import Any

from msgspec import Struct

from app.core.model.arrival import moment_of


class Statement(StrEnum):
    """Every statement an Effect can ask for.

    What each one means, its arguments in order and its SQL have one entry in app/postgres/store/statements.py.
    """

    UPSERT_CONFIG = "upsert_config"
    UPSERT_SAMPLED_CONFIG = "upsert_sampled_config"
    INSERT_CONFIG = "insert_config"
    UPSERT_AVERAGE = "upsert_average"
    UPSERT_STATUS = "upsert_status"
    INSERT_STATUS = "insert_status"
    UPSERT_PRESENCE = "upsert_presence"
    UPSERT_SET_BACK = "upsert_set_back"
    UPSERT_ACTIVE_ALERT = "upsert_active_alert"
    DELETE_ACTIVE_ALERT = "delete_active_alert"
    UPSERT_MUTED_ALERT = "upsert_muted_alert"
    DELETE_MUTED_ALERT = "delete_muted_alert"
    UPSERT_MUTE = "upsert_mute"
    DELETE_MUTE = "delete_mute"
    ADOPT_ACTIVE_ALERT = "adopt_active_alert"
    ADOPT_AVERAGES = "adopt_averages"
    ADOPT_STATUS = "adopt_status"
    INSERT_HISTORY = "insert_history"


class Effect(Struct, frozen=True):
    """One statement to carry out with a write; equal keys are carried out in the order given."""

    statement: Statement
    args: tuple[Any, ...]


class WriteResult(Struct, frozen=True):
    """What became of one write: rows + duplicates + len(refused) is the number of rows given."""

    rows: int = 0  # newly stored
    duplicates: int = 0  # rows that were there already, or twice in this write
    refused: tuple[tuple[int, str], ...] = ()  # (index of the row, the database's words), by index
    refused_effects: tuple[tuple[int, str], ...] = ()  # (index of the effect, the database's words), by index


class ClockSetback(Struct, frozen=True, gc=False):
    """The clock of a device was set back."""

    user_id: str
    device_id: str
    at: int  # when the reading came in that showed it, ms since 1970
    seconds: float  # from the newest time known before to the first reading of the run
    way: str = ""  # of the device (app.core.model.namespaces)

    def effect(self) -> Effect:
        """The statement that notes the setback in the device's row of device_status."""
        name = f"{self.user_id}/{self.device_id}"
        args = (name, self.user_id, self.device_id, moment_of(self.at), self.seconds, self.way)
        return Effect(Statement.UPSERT_SET_BACK, args)
