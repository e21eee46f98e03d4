"""The dashboard of whoever looks at devices: readings, alerts and silence, straight from the database."""

from tools.monitoring.operations import link
from tools.monitoring.panels import (
    POSTGRES,
    Json,
    Panel,
    Row,
    Sql,
    Steps,
    column,
    dashboard,
    series,
    stat,
    table,
)

# :sqlstring quotes: a device may be called anything.
USER = "user_id = ${user:sqlstring}"
DEVICE = f"{USER} AND device_id IN (${{device:sqlstring}})"
LATELY = "time BETWEEN $__timeTo()::timestamptz - interval '1 minute' AND $__timeTo()::timestamptz"
OPEN = "state IN ('FIRING', 'ACKED', 'STALE')"
SOME: Steps = ((None, "green"), (1, "yellow"))
STALE: Steps = ((None, "green"), (60, "yellow"), (600, "red"))

USERS = """
    SELECT user_id FROM device_status
    UNION SELECT user_id FROM raw_telemetry WHERE time > now() - interval '1 minute'
    ORDER BY 1 LIMIT 10000"""
DEVICES = f"""
    SELECT device_id FROM device_status WHERE {USER}
    UNION SELECT device_id FROM raw_telemetry WHERE {USER} AND time > now() - interval '1 minute'
    ORDER BY 1 LIMIT 10000"""

SEVERITY = {
    "mappings": [
        {
            "type": "value",
            "options": {
                "critical": {"color": "red", "index": 0},
                "warning": {"color": "orange", "index": 1},
                "info": {"color": "blue", "index": 2},
            },
        }
    ]
}

FLEET: list[Panel] = [
    stat(
        "Devices",
        "Devices and nodes that have a row in device_status.",
        "short",
        Sql("SELECT count(*) AS devices FROM device_status"),
        options={"graphMode": "none"},
    ),
    stat(
        "Offline",
        "Devices and nodes that are not online, of all users.",
        "short",
        Sql("SELECT count(*) AS offline FROM device_status WHERE status <> 'online'"),
        SOME,
        options={"graphMode": "none"},
    ),
    stat(
        "Open alerts",
        "Alerts that hold now and are neither snoozed, disabled nor suppressed.",
        "short",
        Sql(f"SELECT count(*) AS open FROM active_alerts WHERE {OPEN}"),
        SOME,
        options={"graphMode": "none"},
    ),
    stat(
        "Held for a digest",
        "Alert events above the budget of their user, which the next digest takes (IOT_ALERTS_PER_MINUTE).",
        "short",
        Sql("""SELECT count(*) AS held FROM alert_history
               WHERE held_at IS NOT NULL AND sent_at IS NULL AND left_out IS NULL"""),
        SOME,
        options={"graphMode": "none"},
    ),
    stat(
        "Readings a second",
        "Rows of the last minute of the range, by the readings' own time.",
        "rowsps",
        Sql(f"SELECT count(*) / 60.0 AS rate FROM raw_telemetry WHERE {LATELY}"),
        options={"graphMode": "none"},
    ),
    stat(
        "Newest reading",
        "How long ago, by its own time, the newest row of the range is.",
        "s",
        Sql("""SELECT greatest(0, extract(epoch FROM now() - max(time))) AS age FROM raw_telemetry
               WHERE time > now() - interval '1 hour' AND $__timeFilter(time)"""),
        STALE,
        options={"graphMode": "none"},
    ),
    table(
        "Open alerts of all users",
        "The 200 newest (active_alerts): critical ones first.",
        Sql(f"""SELECT severity, user_id, device_id, rule_id, message, value, threshold, state, first_seen, last_seen
                FROM active_alerts WHERE {OPEN}
                ORDER BY severity = 'critical' DESC, first_seen DESC LIMIT 200"""),
        width=14,
        height=10,
        overrides=(column("severity", custom__cellOptions={"type": "color-text"}, **SEVERITY),),
    ),
    table(
        "Offline devices",
        "The 200 that fell silent last (device_status).",
        Sql("""SELECT user_id, device_id, way, status, last_seen, extract(epoch FROM now() - last_seen) AS "silent for"
               FROM device_status WHERE status <> 'online' ORDER BY last_seen DESC LIMIT 200"""),
        width=10,
        height=10,
        overrides=(column("silent for", unit="s"),),
    ),
    table(
        "Top talkers",
        "Devices with most rows in the last minute of the range.",
        Sql(f"""SELECT user_id, device_id, count(*) AS rows, count(*) / 60.0 AS "rows/s",
                       sum(pg_column_size(extra_data)) AS "extra data"
                FROM raw_telemetry WHERE {LATELY} GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20"""),
        width=14,
        overrides=(column("rows/s", unit="rowsps"), column("extra data", unit="bytes")),
    ),
    table(
        "Freshness by user",
        "Time since the last sign of life of any device, the 20 worst of the last week. last_seen is up"
        " to IOT_LAST_SEEN_EVERY old.",
        Sql("""SELECT user_id, count(*) AS devices, max(last_seen) AS newest,
                      extract(epoch FROM now() - max(last_seen)) AS age
               FROM device_status WHERE last_seen > now() - interval '7 days'
               GROUP BY 1 ORDER BY 4 DESC LIMIT 20"""),
        width=10,
        overrides=(
            column(
                "age",
                unit="s",
                custom__cellOptions={"type": "color-text"},
                thresholds={"mode": "absolute", "steps": [{"value": value, "color": name} for value, name in STALE]},
            ),
        ),
    ),
]

ONE: list[Panel] = [
    series(
        "Temperature",
        "Mean of each step of the graph, by device.",
        "celsius",
        Sql(
            f"""SELECT $__timeGroupAlias(time, $__interval), device_id AS metric, avg(temperature) AS value
                FROM raw_telemetry WHERE $__timeFilter(time) AND {DEVICE} AND temperature IS NOT NULL
                GROUP BY 1, 2 ORDER BY 1""",
            series=True,
        ),
        extra={},
        width=12,
    ),
    series(
        "Battery",
        "The least of each step of the graph, by device.",
        "percent",
        Sql(
            f"""SELECT $__timeGroupAlias(time, $__interval), device_id AS metric, min(battery)::float8 AS value
                FROM raw_telemetry WHERE $__timeFilter(time) AND {DEVICE} AND battery IS NOT NULL
                GROUP BY 1, 2 ORDER BY 1""",
            series=True,
        ),
        steps=((None, "red"), (10, "yellow"), (25, "green")),
        width=12,
    ),
    series(
        "Other fields",
        "Mean of each number at the top level of extra_data, by device and field.",
        "short",
        Sql(
            f"""SELECT time, metric, avg(value) AS value FROM (
                  SELECT $__timeGroupAlias(time, $__interval), device_id || ' ' || (field ->> 'key') AS metric,
                         (field ->> 'value')::double precision AS value
                  FROM raw_telemetry, jsonb_path_query(extra_data,
                    '$.keyvalue() ? (@.value.type() == "number" && @.value < 1e300 && @.value > -1e300)') AS field
                  WHERE $__timeFilter(time) AND {DEVICE}
                ) AS fields GROUP BY 1, 2 ORDER BY 1""",
            series=True,
        ),
        extra={},
        width=12,
    ),
    series(
        "Readings",
        "Rows in each step of the graph, by device.",
        "short",
        Sql(
            f"""SELECT $__timeGroupAlias(time, $__interval), device_id AS metric, count(*)::double precision AS value
                FROM raw_telemetry WHERE $__timeFilter(time) AND {DEVICE} GROUP BY 1, 2 ORDER BY 1""",
            series=True,
        ),
        width=12,
    ),
    table(
        "Device",
        "What is known of it: presence, clock.",
        Sql(f"""SELECT device_id, way, status, last_seen, extract(epoch FROM now() - last_seen) AS "silent for",
                       clock_skew AS "clock ahead", clock_set_back_at
                FROM device_status WHERE {DEVICE} ORDER BY 1, 2"""),
        width=12,
        overrides=(column("silent for", unit="s"), column("clock ahead", unit="s")),
    ),
    table(
        "Rolling averages",
        "What the rolling windows say as of the newest reading (docs/averages.md).",
        Sql(f"""SELECT device_id, key, window_seconds, time, count, mean, minimum, maximum
                FROM rolling_averages WHERE {DEVICE} ORDER BY 1, 2, 3"""),
        width=12,
        overrides=(column("window_seconds", unit="s"),),
    ),
    table(
        "Last readings",
        "The 100 newest rows of the range.",
        Sql(f"""SELECT time, device_id, sequence_id, temperature, battery, extra_data::text AS extra_data
                FROM raw_telemetry WHERE $__timeFilter(time) AND {DEVICE} ORDER BY time DESC LIMIT 100"""),
        width=12,
        height=10,
    ),
    table(
        "Alerts of the user",
        "Every event of the range, of all devices (alert_history): when recorded, when sent.",
        Sql(f"""SELECT recorded_at, status, severity, device_id, rule_id, message, value, threshold, sent_at, left_out
                FROM alert_history WHERE {USER} AND $__timeFilter(recorded_at) ORDER BY recorded_at DESC LIMIT 200"""),
        width=12,
        height=10,
        overrides=(column("severity", custom__cellOptions={"type": "color-text"}, **SEVERITY),),
    ),
]


def made() -> Json:
    """The dashboard, as built-in types for JSON."""
    return dashboard(
        "iot-telemetry",
        "iot-stream: telemetry",
        "Readings, open alerts and silent devices, from the database as the role iot_dashboard, which can only read.",
        [Row("All users", FLEET), Row("$user: $device", ONE)],
        [
            POSTGRES.variable,
            _rows("user", USERS, multi=False),
            _rows("device", DEVICES, multi=True),
        ],
        refresh="1m",
        time={"from": "now-1h", "to": "now"},
        links=[link("Operations", "/d/iot-operations", "Is all well with the programs")],
    )


def _rows(name: str, sql: str, multi: bool) -> Json:
    """A variable with the values of a column."""
    query = " ".join(sql.split())
    return {
        "type": "query", "name": name, "label": name, "datasource": POSTGRES.reference, "definition": query,
        "query": query, "refresh": 1, "sort": 0, "multi": multi, "includeAll": False, "current": {}, "options": [],
    }  # fmt: skip
