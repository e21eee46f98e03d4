"""Statements beside the rows: the SQL of each, and the column that each of its parameters goes to."""

from app.core.batch.effects import Statement
from app.postgres.store import config_edits

EFFECTS = {
    Statement.UPSERT_CONFIG: config_edits.UPSERT,
    Statement.UPSERT_SAMPLED_CONFIG: config_edits.UPSERT_SAMPLED,
    Statement.INSERT_CONFIG: """
        INSERT INTO user_configs (user_id, rules, maintenance, edited_at, message_edited_at, message_at, sampling)
        VALUES ($1, coalesce($2::jsonb, '[]'), coalesce($3::jsonb, '[]'), least($4::timestamptz, clock_timestamp()),
            least($4::timestamptz, clock_timestamp()), $4, coalesce($5::jsonb, '{}'))
        ON CONFLICT (user_id) DO NOTHING""",
    Statement.UPSERT_AVERAGE: """
        INSERT INTO rolling_averages (user_id, device_id, key, window_seconds, time, count, mean, minimum, maximum,
            way)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (user_id, device_id, key, window_seconds, way) DO UPDATE SET time = EXCLUDED.time,
            count = EXCLUDED.count, mean = EXCLUDED.mean, minimum = EXCLUDED.minimum, maximum = EXCLUDED.maximum
        WHERE (rolling_averages.time, rolling_averages.count) <= (EXCLUDED.time, EXCLUDED.count)""",
    Statement.UPSERT_STATUS: """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, detail)
        VALUES ($1, $2, $3, $4, $5, $6::jsonb)
        ON CONFLICT (device_key, way) DO UPDATE SET user_id = EXCLUDED.user_id, device_id = EXCLUDED.device_id,
            status = EXCLUDED.status, last_seen = EXCLUDED.last_seen, detail = EXCLUDED.detail
        WHERE device_status.last_seen <= EXCLUDED.last_seen""",
    Statement.INSERT_STATUS: """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, detail)
        VALUES ($1, $2, $3, $4, $5, $6::jsonb)
        ON CONFLICT (device_key, way) DO NOTHING""",
    Statement.UPSERT_PRESENCE: """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, clock_skew, way)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (device_key, way) DO UPDATE SET status = EXCLUDED.status, last_seen = EXCLUDED.last_seen,
            clock_skew = coalesce(EXCLUDED.clock_skew, device_status.clock_skew)
        WHERE device_status.last_seen <= EXCLUDED.last_seen""",
    Statement.UPSERT_SET_BACK: """
        INSERT INTO device_status (device_key, user_id, device_id, status, last_seen, clock_set_back_at, clock_set_back,
            way)
        VALUES ($1, $2, $3, 'online', $4, $4, $5, $6)
        ON CONFLICT (device_key, way) DO UPDATE SET clock_set_back_at = EXCLUDED.clock_set_back_at,
            clock_set_back = EXCLUDED.clock_set_back""",
    # edited_at always moves, which tells the trigger that this is no edit by hand.
    # The history is asked so that a writer that comes too late cannot bring back what is over; and so that a row of
    # that, newer by the clock of before a device was set back, keeps out nothing that is open.
    Statement.UPSERT_ACTIVE_ALERT: """
        INSERT INTO active_alerts (user_id, device_id, rule_id, alert_id, severity, message, value, threshold,
            first_seen, last_seen, state, snoozed_until, way)
        SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::double precision, $8::double precision,
            $9::timestamptz, $10::timestamptz, $11::text, $12::timestamptz, $13::text
        WHERE NOT EXISTS (SELECT FROM alert_history WHERE alert_id = $4::text AND status = 'RESOLVED')
        ON CONFLICT (user_id, device_id, rule_id, way) DO UPDATE SET alert_id = EXCLUDED.alert_id,
            severity = EXCLUDED.severity, message = EXCLUDED.message, value = EXCLUDED.value,
            threshold = EXCLUDED.threshold, first_seen = EXCLUDED.first_seen, last_seen = EXCLUDED.last_seen,
            state = EXCLUDED.state, snoozed_until = EXCLUDED.snoozed_until
        WHERE active_alerts.last_seen <= EXCLUDED.last_seen OR EXISTS (SELECT FROM alert_history
            WHERE alert_history.alert_id = active_alerts.alert_id AND alert_history.status = 'RESOLVED')""",
    Statement.DELETE_ACTIVE_ALERT: """
        DELETE FROM active_alerts WHERE user_id = $1 AND device_id = $2 AND rule_id = $3 AND way = $5
            AND (first_seen <= $4 OR EXISTS (SELECT FROM alert_history
                WHERE alert_history.alert_id = active_alerts.alert_id AND alert_history.status = 'RESOLVED'))""",
    # A second one, should there be one already, says nothing new.
    Statement.ADOPT_ACTIVE_ALERT: """
        UPDATE active_alerts AS old SET way = 'iot'
        WHERE user_id = $1 AND device_id = $2 AND rule_id = $3 AND alert_id = $4 AND way = '' AND NOT EXISTS (
            SELECT FROM active_alerts AS new WHERE (new.user_id, new.device_id, new.rule_id, new.way)
                = (old.user_id, old.device_id, old.rule_id, 'iot'))""",
    Statement.ADOPT_AVERAGES: """
        UPDATE rolling_averages AS old SET way = 'iot'
        WHERE user_id = $1 AND device_id = $2 AND way = '' AND NOT EXISTS (
            SELECT FROM rolling_averages AS new
            WHERE (new.user_id, new.device_id, new.key, new.window_seconds, new.way)
                = (old.user_id, old.device_id, old.key, old.window_seconds, 'iot'))""",
    Statement.ADOPT_STATUS: """
        UPDATE device_status AS old SET way = 'iot' WHERE device_key = $1 AND way = '' AND NOT EXISTS (
            SELECT FROM device_status AS new WHERE (new.device_key, new.way) = (old.device_key, 'iot'))""",
    Statement.INSERT_HISTORY: """
        INSERT INTO alert_history (alert_id, status, repeat, user_id, device_id, rule_id, severity, message, value,
            threshold, event_time, first_seen, event)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb)
        ON CONFLICT (alert_id, status, repeat) DO NOTHING""",
}


CONFIG = ("user_id", "rules", "maintenance", "edited_at", "message_partition", "message_offset", "message_live")


# Of each statement, the column that $1, $2, ... goes to; for an error's words.
PARAMETERS = {
    Statement.UPSERT_CONFIG: CONFIG,
    Statement.UPSERT_SAMPLED_CONFIG: (*CONFIG, "sampling"),
    Statement.INSERT_CONFIG: ("user_id", "rules", "maintenance", "edited_at", "sampling"),
    Statement.UPSERT_AVERAGE: (
        "user_id",
        "device_id",
        "key",
        "window_seconds",
        "time",
        "count",
        "mean",
        "minimum",
        "maximum",
        "way",
    ),
    Statement.UPSERT_STATUS: ("device_key", "user_id", "device_id", "status", "last_seen", "detail"),
    Statement.INSERT_STATUS: ("device_key", "user_id", "device_id", "status", "last_seen", "detail"),
    Statement.UPSERT_SET_BACK: ("device_key", "user_id", "device_id", "clock_set_back_at", "clock_set_back", "way"),
    Statement.UPSERT_PRESENCE: ("device_key", "user_id", "device_id", "status", "last_seen", "clock_skew", "way"),
    Statement.UPSERT_ACTIVE_ALERT: (
        "user_id",
        "device_id",
        "rule_id",
        "alert_id",
        "severity",
        "message",
        "value",
        "threshold",
        "first_seen",
        "last_seen",
        "state",
        "snoozed_until",
        "way",
    ),
    Statement.DELETE_ACTIVE_ALERT: ("user_id", "device_id", "rule_id", "first_seen", "way"),
    Statement.ADOPT_ACTIVE_ALERT: ("user_id", "device_id", "rule_id", "alert_id"),
    Statement.ADOPT_AVERAGES: ("user_id", "device_id"),
    Statement.ADOPT_STATUS: ("device_key",),
    Statement.INSERT_HISTORY: (
        "alert_id",
        "status",
        "repeat",
        "user_id",
        "device_id",
        "rule_id",
        "severity",
        "message",
        "value",
        "threshold",
        "event_time",
        "first_seen",
        "event",
    ),
}
