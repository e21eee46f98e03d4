"""What a batch asks of the database beside its rows, and what came of it.

An Effect is a statement from a closed set and its arguments; it is carried out after the rows, in the same
transaction. Written is the database's answer, counted from its own words.
"""

from enum import StrEnum
from typing import Any

from msgspec import Struct

from app.core.model.arrival import moment_of


class Statement(StrEnum):
    """Every statement an Effect can ask for. The arguments, in order, with their Python types:

    UPSERT_CONFIG           user_id str, rules str | None (JSON text), maintenance str | None (JSON text), edited_at
                            datetime of whole milliseconds, partition int, offset int, live bool: whether the place in
                            the log is that of its sending. None leaves what is there, a config that is not the newest
                            all of it (app.postgres.store.config_edits)
    UPSERT_SAMPLED_CONFIG   the same, and sampling str (JSON text)
    INSERT_CONFIG           the same, with sampling str | None; for a user who has no configuration at all
    UPSERT_STATUS           device_key str, user_id str, device_id str, status str, last_seen datetime,
                            detail str (JSON text); an older last_seen than the stored one changes nothing
    INSERT_STATUS           the same, for a device that has no row
    UPSERT_PRESENCE         device_key str, user_id str, device_id str, status str, last_seen datetime,
                            clock_skew float | None (seconds; None leaves what is there), way str; an older
                            last_seen as above, and what a status message said beside its word stays
    UPSERT_SET_BACK         device_key str, user_id str, device_id str, at datetime, seconds float, way str: of its
                            clock
    UPSERT_ACTIVE_ALERT     user_id str, device_id str, rule_id str, alert_id str, severity str, message str,
                            value float | None, threshold float | None, first_seen datetime, last_seen datetime,
                            state str, snoozed_until datetime | None, way str; an older last_seen than the stored one,
                            or an alert that alert_history knows to be resolved, changes nothing; one there that it
                            knows to be resolved holds up nothing, whatever its times are
    DELETE_ACTIVE_ALERT     user_id str, device_id str, rule_id str, first_seen datetime, way str; a later one stays
                            that is not known to be resolved
    ADOPT_ACTIVE_ALERT      user_id str, device_id str, rule_id str, alert_id str: its row, written before there were
                            two ways, is one of `iot`; so
    ADOPT_AVERAGES          user_id str, device_id str
    ADOPT_STATUS            device_key str
    UPSERT_AVERAGE          user_id str, device_id str, key str, window_seconds int, time datetime, count int,
                            mean float, minimum float, maximum float, way str; an older time than the stored one changes
                            nothing, nor does a lower count of the same time: late readings only add to it
    INSERT_HISTORY          alert_id str, status str, repeat int, user_id str, device_id str, rule_id str, severity str,
                            message str, value float | None, threshold float | None, event_time datetime,
                            first_seen datetime, event str (JSON text); one that is there already stays as it is
    """

    UPSERT_CONFIG = "upsert_config"
    UPSERT_SAMPLED_CONFIG = "upsert_sampled_config"
    INSERT_CONFIG = "insert_config"
    UPSERT_STATUS = "upsert_status"
    INSERT_STATUS = "insert_status"
    UPSERT_PRESENCE = "upsert_presence"
    UPSERT_SET_BACK = "upsert_set_back"
    UPSERT_ACTIVE_ALERT = "upsert_active_alert"
    DELETE_ACTIVE_ALERT = "delete_active_alert"
    ADOPT_ACTIVE_ALERT = "adopt_active_alert"
    ADOPT_AVERAGES = "adopt_averages"
    ADOPT_STATUS = "adopt_status"
    UPSERT_AVERAGE = "upsert_average"
    INSERT_HISTORY = "insert_history"


class Effect(Struct, frozen=True):
    """One statement to carry out with a write; equal keys are carried out in the order given."""

    statement: Statement
    args: tuple[Any, ...]


class WriteResult(Struct, frozen=True):
    """What became of one write: rows + duplicates + len(refused) is the number of rows given."""

    rows: int = 0  # newly stored
    duplicates: int = 0  # were there already, or twice in this write
    refused: tuple[tuple[int, str], ...] = ()  # (index of the row, the database's words), by index
    refused_effects: tuple[tuple[int, str], ...] = ()  # (index of the effect, the database's words), by index


class ClockSetback(Struct, frozen=True, gc=False):
    """That a device's clock was set back."""

    user_id: str
    device_id: str
    at: int  # when the reading came in that showed it, ms since 1970
    seconds: float  # from the newest time known before to the first reading of the run
    way: str = ""  # of the device (app.core.model.namespaces)

    def effect(self) -> Effect:
        """For its row of device_status."""
        name = f"{self.user_id}/{self.device_id}"
        args = (name, self.user_id, self.device_id, moment_of(self.at), self.seconds, self.way)
        return Effect(Statement.UPSERT_SET_BACK, args)
