"""Statements that an Effect can ask for, one entry each: the meaning, the column of each parameter, and the SQL."""

from collections.abc import Mapping
from typing import NamedTuple

from app.core.batch.effects import Statement
from app.postgres.store import config_edits, mute_edits


class SqlStatement(NamedTuple):
    """`parameters` of $1, $2, ... in order: the column's name, for an error's words, and the Python type it takes.

    `together`: the same for many at once, with an array for each parameter; empty where there is none.
    """

    meaning: str
    parameters: Mapping[str, str]
    sql: str
    together: str = ""


_DEVICE = {"user_id": "str", "device_id": "str"}
_STATUS = {"device_key": "str", **_DEVICE, "status": "str", "last_seen": "datetime"}
_DETAIL = {"detail": "str (JSON text)"}
_WAY = {"way": "str"}
_CONFIG = {
    "user_id": "str",
    "rules": "str | None (JSON text)",
    "maintenance": "str | None (JSON text)",
    "edited_at": "datetime of whole milliseconds",
}
_MUTE = {"user_id": "str", "rule_id": "str", "device_id": "str"}
_MESSAGE = {"message_partition": "int", "message_offset": "int", "message_live": "bool"}
_ALERT = {
    "severity": "str",
    "message": "str",
    "value": "float | None",
    "threshold": "float | None",
}

STATEMENTS: Mapping[Statement, SqlStatement] = {
    Statement.UPSERT_CONFIG: SqlStatement(
        "None leaves what is stored, and a config that is not the newest leaves all of it (config_edits.py); "
        "`message_live`: the place in the log is that of the message's sending",
        _CONFIG | _MESSAGE,
        config_edits.UPSERT,
    ),
    Statement.UPSERT_SAMPLED_CONFIG: SqlStatement(
        "as UPSERT_CONFIG, with the sampling",
        _CONFIG | _MESSAGE | {"sampling": "str (JSON text)"},
        config_edits.UPSERT_SAMPLED,
    ),
    Statement.INSERT_CONFIG: SqlStatement(
        "for a user who has no configuration at all, but perhaps mutes",
        _CONFIG | {"sampling": "str | None (JSON text)"},
        """
        INSERT INTO user_configs (user_id, rules, maintenance, edited_at, message_edited_at, message_at, sampling)
        VALUES ($1, coalesce($2::jsonb, '[]'), coalesce($3::jsonb, '[]'), least($4::timestamptz, clock_timestamp()),
            least($4::timestamptz, clock_timestamp()), $4, coalesce($5::jsonb, '{}'))
        ON CONFLICT (user_id) DO UPDATE SET rules = EXCLUDED.rules, maintenance = EXCLUDED.maintenance,
            sampling = EXCLUDED.sampling, edited_at = EXCLUDED.edited_at,
            message_edited_at = EXCLUDED.message_edited_at, message_at = EXCLUDED.message_at
        WHERE user_configs.edited_at = 'epoch'""",
    ),
    Statement.UPSERT_AVERAGE: SqlStatement(
        "an older time than the stored one changes nothing, nor does a lower count of the same time: late readings "
        "only add to the count",
        _DEVICE
        | {"key": "str", "window_seconds": "int", "time": "datetime", "count": "int"}
        | {"mean": "float", "minimum": "float", "maximum": "float"}
        | _WAY,
        """
        INSERT INTO rolling_averages (user_id, device_id, key, window_seconds, time, count, mean, minimum, maximum,
            way)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (user_id, device_id, key, window_seconds, way) DO UPDATE SET time = EXCLUDED.time,
            count = EXCLUDED.count, mean = EXCLUDED.mean, minimum = EXCLUDED.minimum, maximum = EXCLUDED.maximum
        WHERE (rolling_averages.time, rolling_averages.count) <= (EXCLUDED.time, EXCLUDED.count)""",
    ),
    Statement.UPSERT_STATUS: SqlStatement(
        "an older last_seen than the stored one changes nothing",
        _STATUS | _DETAIL,
        """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, detail)
        VALUES ($1, $2, $3, $4, $5, $6::jsonb)
        ON CONFLICT (device_key, way) DO UPDATE SET user_id = EXCLUDED.user_id, device_id = EXCLUDED.device_id,
            status = EXCLUDED.status, last_seen = EXCLUDED.last_seen, detail = EXCLUDED.detail
        WHERE device_status.last_seen <= EXCLUDED.last_seen""",
    ),
    Statement.INSERT_STATUS: SqlStatement(
        "for a device that has no row",
        _STATUS | _DETAIL,
        """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, detail)
        VALUES ($1, $2, $3, $4, $5, $6::jsonb)
        ON CONFLICT (device_key, way) DO NOTHING""",
    ),
    Statement.UPSERT_PRESENCE: SqlStatement(
        "an older last_seen than the stored one changes nothing; the skew is in seconds, None leaves what is stored, "
        "and what a status message said beside its word stays",
        _STATUS | {"clock_skew": "float | None"} | _WAY,
        """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, clock_skew, way)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (device_key, way) DO UPDATE SET status = EXCLUDED.status, last_seen = EXCLUDED.last_seen,
            clock_skew = coalesce(EXCLUDED.clock_skew, device_status.clock_skew)
        WHERE device_status.last_seen <= EXCLUDED.last_seen""",
    ),
    Statement.UPSERT_SET_BACK: SqlStatement(
        "the clock of a device was set back at this time, by so many seconds",
        {"device_key": "str", **_DEVICE, "clock_set_back_at": "datetime", "clock_set_back": "float"} | _WAY,
        """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, clock_set_back_at, clock_set_back,
            way)
        VALUES ($1, $2, $3, 'online', $4, $4, $5, $6)
        ON CONFLICT (device_key, way) DO UPDATE SET clock_set_back_at = EXCLUDED.clock_set_back_at,
            clock_set_back = EXCLUDED.clock_set_back""",
    ),
    # The history is asked so that a writer that comes too late cannot bring back what is over; and so that a row of
    # that, newer by the clock of before a device was set back, keeps out nothing that is open.
    Statement.UPSERT_ACTIVE_ALERT: SqlStatement(
        "an older last_seen than the stored one, or an alert that alert_history knows to be resolved, changes nothing; "
        "a stored alert that alert_history knows to be resolved holds up nothing, whatever its times are",
        _DEVICE
        | {"rule_id": "str", "alert_id": "str"}
        | _ALERT
        | {"first_seen": "datetime", "last_seen": "datetime", "state": "str", "snoozed_until": "datetime | None"}
        | _WAY
        | {"assignee": "str | None", "comment": "str | None"},
        """
        INSERT INTO active_alerts (user_id, device_id, rule_id, alert_id, severity, message, value, threshold,
            first_seen, last_seen, state, snoozed_until, way, assignee, comment)
        SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::double precision, $8::double precision,
            $9::timestamptz, $10::timestamptz, $11::text, $12::timestamptz, $13::text, $14::text, $15::text
        WHERE NOT EXISTS (SELECT FROM alert_history WHERE alert_id = $4::text AND status = 'RESOLVED')
        ON CONFLICT (user_id, device_id, rule_id, way) DO UPDATE SET alert_id = EXCLUDED.alert_id,
            severity = EXCLUDED.severity, message = EXCLUDED.message, value = EXCLUDED.value,
            threshold = EXCLUDED.threshold, first_seen = EXCLUDED.first_seen, last_seen = EXCLUDED.last_seen,
            state = EXCLUDED.state, snoozed_until = EXCLUDED.snoozed_until, assignee = EXCLUDED.assignee,
            comment = EXCLUDED.comment
        WHERE active_alerts.last_seen <= EXCLUDED.last_seen OR EXISTS (SELECT FROM alert_history
            WHERE alert_history.alert_id = active_alerts.alert_id AND alert_history.status = 'RESOLVED')""",
    ),
    Statement.DELETE_ACTIVE_ALERT: SqlStatement(
        "an alert that began later stays, unless it is known to be resolved",
        _DEVICE | {"rule_id": "str", "first_seen": "datetime"} | _WAY,
        """
        DELETE FROM active_alerts WHERE user_id = $1 AND device_id = $2 AND rule_id = $3 AND way = $5
            AND (first_seen <= $4 OR EXISTS (SELECT FROM alert_history
                WHERE alert_history.alert_id = active_alerts.alert_id AND alert_history.status = 'RESOLVED'))""",
    ),
    Statement.UPSERT_MUTED_ALERT: SqlStatement(
        "a rule is snoozed on a device, or disabled where `snoozed_until` is None; the device's state says so too",
        _DEVICE
        | {"rule_id": "str", "since": "datetime", "snoozed_until": "datetime | None", "by": "str", "comment": "str"}
        | _WAY,
        """
        INSERT INTO muted_alerts AS kept (user_id, device_id, rule_id, since, snoozed_until, muted_by, comment, way)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (user_id, device_id, rule_id, way) DO UPDATE SET since = EXCLUDED.since,
            snoozed_until = EXCLUDED.snoozed_until, muted_by = EXCLUDED.muted_by, comment = EXCLUDED.comment""",
    ),
    Statement.DELETE_MUTED_ALERT: SqlStatement(
        "a rule is neither snoozed nor disabled on a device any more",
        _DEVICE | {"rule_id": "str"} | _WAY,
        "DELETE FROM muted_alerts WHERE user_id = $1 AND device_id = $2 AND rule_id = $3 AND way = $4",
    ),
    Statement.UPSERT_MUTE: SqlStatement(
        "a mute of the user; one of the same rule and device that began later stays, one that is over goes",
        _MUTE | {"mute": "str (JSON text)", "since": "datetime"},
        mute_edits.UPSERT,
    ),
    Statement.DELETE_MUTE: SqlStatement(
        "a mute of the user ends, unless it began later",
        _MUTE | {"since": "datetime"},
        mute_edits.DELETE,
    ),
    # A second row, should there be one of `iot` already, says nothing new.
    Statement.ADOPT_ACTIVE_ALERT: SqlStatement(
        "the alert's row, written before there were two ways, is one of `iot`",
        _DEVICE | {"rule_id": "str", "alert_id": "str"},
        """
        UPDATE active_alerts AS old SET way = 'iot'
        WHERE user_id = $1 AND device_id = $2 AND rule_id = $3 AND alert_id = $4 AND way = '' AND NOT EXISTS (
            SELECT FROM active_alerts AS new WHERE (new.user_id, new.device_id, new.rule_id, new.way)
                = (old.user_id, old.device_id, old.rule_id, 'iot'))""",
    ),
    Statement.ADOPT_AVERAGES: SqlStatement(
        "the device's rows, written before there were two ways, are some of `iot`",
        _DEVICE,
        """
        UPDATE rolling_averages AS old SET way = 'iot'
        WHERE user_id = $1 AND device_id = $2 AND way = '' AND NOT EXISTS (
            SELECT FROM rolling_averages AS new
            WHERE (new.user_id, new.device_id, new.key, new.window_seconds, new.way)
                = (old.user_id, old.device_id, old.key, old.window_seconds, 'iot'))""",
    ),
    Statement.ADOPT_STATUS: SqlStatement(
        "the device's row, written before there were two ways, is one of `iot`",
        {"device_key": "str"},
        """
        UPDATE device_status AS old SET way = 'iot' WHERE device_key = $1 AND way = '' AND NOT EXISTS (
            SELECT FROM device_status AS new WHERE (new.device_key, new.way) = (old.device_key, 'iot'))""",
    ),
    Statement.INSERT_HISTORY: SqlStatement(
        "a stored event stays as it is",
        {"alert_id": "str", "status": "str", "repeat": "int", **_DEVICE, "rule_id": "str"}
        | _ALERT
        | {"event_time": "datetime", "first_seen": "datetime", "event": "str (JSON text)"},
        """
        INSERT INTO alert_history (alert_id, status, repeat, user_id, device_id, rule_id, severity, message, value,
            threshold, event_time, first_seen, event)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb)
        ON CONFLICT (alert_id, status, repeat) DO NOTHING""",
        """
        INSERT INTO alert_history (alert_id, status, repeat, user_id, device_id, rule_id, severity, message, value,
            threshold, event_time, first_seen, event)
        SELECT alert_id, status, repeat, user_id, device_id, rule_id, severity, message, value, threshold, event_time,
            first_seen, event::jsonb
        FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::double precision[], $10::double precision[], $11::timestamptz[], $12::timestamptz[], $13::text[])
            AS new (alert_id, status, repeat, user_id, device_id, rule_id, severity, message, value, threshold,
            event_time, first_seen, event)
        ON CONFLICT (alert_id, status, repeat) DO NOTHING""",
    ),
}
