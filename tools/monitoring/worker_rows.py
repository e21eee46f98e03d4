"""Rows of the operations dashboard: what the workers do, and what they do it with."""

from tools.monitoring.panels import STACKED, Panel, Prom, Sql, column, renamed, series, stat, table
from tools.monitoring.queries import ANY, BREAKER, LATE, SOME, above, gained, of, quantile, rate

NOW: list[Panel] = [
    stat(
        "Messages in",
        "Records taken from Kafka and done with, a second. Of iot_messages_received_total.",
        "mps",
        Prom(f"sum({of('instance:iot_messages_received:rate1m')})"),
    ),
    stat(
        "Rows stored",
        "Rows of raw_telemetry newly stored, a second, as the database counts them.",
        "rowsps",
        Prom(f"sum({of('instance:iot_rows_stored:rate1m')})"),
    ),
    stat(
        "Lag",
        "Records in the input topic after the last one done, of all partitions. The alert ConsumerLagGrows"
        " looks at whether it grows.",
        "short",
        Prom(f"sum({of('iot_consumer_lag')})"),
        above((10_000, "yellow"), (100_000, "red")),
    ),
    stat(
        "Lag in time",
        "Age of the oldest record that is not done, of the worst partition; 0 when none waits."
        " IOT_LAG_WARNING_SECONDS is from when on the log says so.",
        "s",
        Prom(f"max({of('iot_consumer_lag_seconds')})"),
        LATE,
    ),
    stat(
        "Age when stored, 99 %",
        "From the event's own time until it is stored and committed. A device that sends what it"
        " had buffered, or whose clock is behind, shows here too.",
        "s",
        Prom(f"histogram_quantile(0.99, sum by (le) ({of('instance_le:iot_event_age_seconds_bucket:rate5m')}))"),
        LATE,
    ),
    stat(
        "Dead letters, last hour",
        "Records that can never be stored, sent to the dead-letter topic with their reason.",
        "short",
        Prom(f"sum(increase({of('iot_dead_letters_total')}[1h])) or vector(0)"),
        SOME,
    ),
    stat(
        "Circuit breaker",
        "Open: the database takes no writes, offsets are held and nothing is lost. Half-open: one write tries it.",
        "none",
        Prom(f"max({of('db_circuit_breaker_state')})"),
        extra=BREAKER,
        options={"graphMode": "none", "colorMode": "background"},
    ),
    stat(
        "Workers up",
        "Workers that answer Prometheus. Partitions of one that is away move to the others.",
        "none",
        Prom('count(up{job="worker",instance=~"$instance"} == 1) or vector(0)'),
        ((None, "red"), (1, "green")),
        options={"graphMode": "none"},
    ),
    stat(
        "Open alerts",
        "Alerts of devices that hold now and are neither snoozed, disabled nor suppressed, of all users"
        " (active_alerts).",
        "short",
        Sql("SELECT count(*) AS open FROM active_alerts WHERE state IN ('FIRING', 'ACKED', 'STALE')"),
        above((1, "yellow")),
        options={"graphMode": "none"},
    ),
    stat(
        "Devices online",
        "Devices and nodes that are online, of the partitions of all workers.",
        "short",
        Prom(f"sum({of('iot_devices_online')})"),
    ),
    stat(
        "Books",
        "Records that came and are accounted for nowhere: 0, or a bug. The row below shows of which partition.",
        "short",
        Prom("sum(abs(partition:iot_ledger:difference)) or vector(0)"),
        ANY,
        options={"graphMode": "none", "colorMode": "background"},
    ),
    stat(
        "Alerts of the platform",
        "Alerts of Prometheus that fire: each has its heading in the runbook.",
        "none",
        Prom('count(ALERTS{alertstate="firing"}) or vector(0)'),
        ANY,
        options={"graphMode": "none"},
    ),
]


def _outcome(name: str) -> str:
    return f'outcome="{name}"'


_OUTCOMES = {
    "received": "A",
    "stored": "B",
    "duplicate": "C",
    "dead_lettered": "D",
    "dropped_by_policy": "E",
}

BOOKS: list[Panel] = [
    series(
        "What became of them",
        "Each record by its outcome, counted when its batch is acknowledged. Settings, status and"
        " commands that were carried out are among the stored.",
        "recps",
        Prom(rate("iot_ledger_total", "outcome", 'outcome!="received"'), "{{outcome}}"),
        extra=STACKED,
    ),
    series(
        "Received less all outcomes",
        "By partition. It is always 0: a worker whose own books do not balance ends, with the offset where it was.",
        "short",
        Prom("partition:iot_ledger:difference", "partition {{partition}}"),
        steps=above((1, "red")),
        extra={},
    ),
    series(
        "In and out by worker",
        "Records done with and rows stored, and what leaves no row of its own: settings, status, commands.",
        "recps",
        Prom(of("instance:iot_messages_received:rate1m"), "received {{instance}}"),
        Prom(of("instance:iot_rows_stored:rate1m"), "rows {{instance}}"),
        Prom(rate("iot_records_carried_out_total"), "carried out"),
        Prom(rate("iot_rows_duplicate_total"), "duplicates"),
    ),
    table(
        "The books of each partition",
        "Since the start of its worker.",
        *(
            Prom(f"sum by (partition) ({of('iot_ledger_total', _outcome(outcome))})", instant=True)
            for outcome in _OUTCOMES
        ),
        Prom("partition:iot_ledger:difference", instant=True),
        width=24,
        transformations=(
            {"id": "merge", "options": {}},
            renamed(
                **{f"Value #{letter}": outcome for outcome, letter in _OUTCOMES.items()}, **{"Value #F": "difference"}
            ),
        ),
        overrides=(
            column(
                "difference",
                thresholds={
                    "mode": "absolute",
                    "steps": [{"value": None, "color": "green"}, {"value": 1, "color": "red"}],
                },
                custom__cellOptions={"type": "color-background"},
            ),
        ),
        unit="short",
    ),
    series(
        "Dead letters by reason",
        "Of all that was received in ten minutes. The usual cause is a new firmware; cures: docs/deadletters.md.",
        "percentunit",
        Prom("reason:iot_dead_letters:ratio10m", "{{reason}}"),
        steps=above((0.01, "red")),
    ),
    series(
        "Dead letters in a row",
        "Since the last good batch, as the limit counts them: at IOT_DEAD_LETTERS_IN_A_ROW the worker ends, loudly.",
        "short",
        Prom(f"max by (instance) ({of('iot_dead_letters_in_a_row')})", "{{instance}}"),
    ),
    series(
        "Left out on purpose",
        "By policy: cov (change of value), silence (claims), retained, forwarded, empty.",
        "recps",
        Prom(rate("iot_dropped_total", "policy"), "{{policy}}"),
    ),
]

OF_A_TENANT, OF_THE_REST = 'user!="other"', 'user="other"'

PATH: list[Panel] = [
    series(
        "Records by kind",
        "What comes out of Kafka: telemetry, status, config, alerts_manage, silence, unknown.",
        "recps",
        Prom(rate("iot_messages_received_total", "kind"), "{{kind}}"),
    ),
    series(
        "Lag by partition",
        "Records that wait. One line far above the others is a hot device, or a partition that is stuck.",
        "short",
        Prom(f"sum by (partition) ({of('iot_consumer_lag')})", "{{partition}}"),
        steps=above((100_000, "red")),
    ),
    series(
        "Lag in time by partition",
        "Age of the oldest record that is not done.",
        "s",
        Prom(f"max by (partition) ({of('iot_consumer_lag_seconds')})", "{{partition}}"),
        steps=LATE,
    ),
    series(
        "Age of an event when it is stored",
        "A dot is a trace of one message: click it.",
        "s",
        *(
            Prom(
                f"histogram_quantile({share}, sum by (le) ({of('instance_le:iot_event_age_seconds_bucket:rate5m')}))",
                name,
                exemplar=share == 0.99,
            )
            for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
        ),
        steps=LATE,
    ),
    series(
        "Time of a batch by stage, 95 %",
        "process: decoding and rules; wait: the batch before it; store: the database; finish: Kafka.",
        "s",
        Prom(quantile(0.95, "iot_batch_seconds", "stage"), "{{stage}}"),
    ),
    series(
        "Records in a batch",
        "A batch is whatever has arrived: it grows with the load.",
        "short",
        Prom(quantile(0.5, "iot_batch_rows"), "median"),
        Prom(quantile(0.95, "iot_batch_rows"), "95 %"),
    ),
    series(
        "Freshness by tenant",
        "Time since the newest stored reading arrived, of the tenants with most readings, and of the"
        " worst of all others.",
        "s",
        Prom(f"min by (user) ({of('iot_tenant_freshness_seconds', OF_A_TENANT)})", "{{user}}"),
        Prom(f"max ({of('iot_tenant_freshness_seconds', OF_THE_REST)})", "worst of the others"),
        steps=above((60, "yellow"), (600, "red")),
    ),
    series(
        "Memory of batches under way",
        "Taken and not yet done, and fetched from Kafka and not yet taken.",
        "bytes",
        Prom(f"sum by (instance) ({of('iot_buffered_bytes')})", "taken {{instance}}"),
        Prom(f"sum by (instance) ({of('iot_fetched_bytes')})", "fetched {{instance}}"),
    ),
    series(
        "Rebalances",
        "How often workers gave up their partitions, and how long until batches came again. A gap that was"
        " healed is a seek back.",
        "short",
        Prom(gained("iot_rebalances_total"), "rebalances"),
        Prom(gained("iot_gaps_healed_total"), "gaps healed"),
        Prom(quantile(0.95, "iot_rebalance_seconds"), "seconds, 95 %"),
        overrides=(column("seconds, 95 %", unit="s", custom__axisPlacement="right"),),
    ),
]

DATABASE: list[Panel] = [
    series(
        "Database transaction",
        "Of the workers' writes. On a healthy database 1 ms for one row, 100 ms for 5,000.",
        "s",
        Prom(quantile(0.5, "iot_db_write_seconds"), "median"),
        Prom(quantile(0.95, "iot_db_write_seconds"), "95 %", exemplar=True),
        Prom(quantile(0.99, "iot_db_write_seconds"), "99 %"),
        steps=above((1, "yellow"), (10, "red")),
    ),
    series(
        "Tries the database failed",
        "transient: an outage. permanent: somebody has to act. Used up: connections, disk or memory of the database.",
        "ops",
        Prom(rate("iot_db_failures_total", "kind"), "{{kind}}"),
        Prom(rate("iot_db_exhausted_total", "resource"), "used up: {{resource}}"),
        Prom(rate("db_circuit_breaker_rejected_total"), "not tried, breaker open"),
    ),
    stat(
        "Connections of the database",
        "In use, of those that it allows (max_connections). PgBouncer keeps them few.",
        "percentunit",
        Sql(
            """SELECT count(*) / current_setting('max_connections')::float8 AS used FROM pg_stat_activity
               WHERE backend_type = 'client backend'"""
        ),
        above((0.7, "yellow"), (0.9, "red")),
        options={"graphMode": "none"},
    ),
    stat(
        "Size of the database",
        "On its disk, with indexes. What a message takes: docs/schema.md.",
        "bytes",
        Sql("SELECT pg_database_size(current_database())::float8 AS size"),
        options={"graphMode": "none"},
    ),
    series(
        "Circuit breaker, operator needed",
        "1 open, 0.5 half-open, 0 closed; operator needed: a missing table or right, the log says which.",
        "none",
        Prom(f"max by (instance) ({of('db_circuit_breaker_state')})", "breaker {{instance}}"),
        Prom(f"max by (instance) ({of('iot_operator_needed')})", "operator needed {{instance}}"),
        steps=above((0.5, "yellow"), (1, "red")),
        extra={"min": 0, "max": 1},
    ),
    series(
        "Rows by the way they are stored",
        "Straight in: by COPY into the table, at half of the database's work; the others are staged, as far as they"
        " are many, until no duplicates are met.",
        "rowsps",
        Prom(rate("iot_rows_copied_directly_total"), "straight in"),
        Prom(f"{rate('iot_rows_stored_total')} - {rate('iot_rows_copied_directly_total')}", "the others"),
        extra=STACKED,
    ),
    series(
        "COPYs that met a duplicate",
        "Or a bad row: their rows are staged, and what they had copied stays as dead rows until the vacuum comes.",
        "short",
        Prom(gained("iot_direct_copies_failed_total"), "COPYs"),
        Prom(gained("iot_direct_copy_dead_rows_total"), "dead rows, at most"),
        overrides=(column("dead rows, at most", unit="short", custom__axisPlacement="right"),),
    ),
    series(
        "Late rows in the slow lane",
        "Rows of long ago, which go to compressed chunks: they wait so that the others need not.",
        "short",
        Prom(f"sum by (instance) ({of('iot_late_rows_waiting')})", "{{instance}}"),
    ),
    series(
        "Kafka takes no writes",
        "1 while a topic takes nothing: offsets are held. /ready says why.",
        "none",
        Prom(f"max by (topic) ({of('iot_kafka_write_held')})", "{{topic}}"),
        steps=ANY,
        extra={"min": 0, "max": 1},
    ),
    series(
        "Records that Kafka no longer had",
        "Offsets missing: lost, as the retention passed them. Begun anew: the topic is another one.",
        "short",
        Prom(gained("iot_offsets_missing_total", "partition"), "missing, partition {{partition}}"),
        Prom(gained("iot_topic_made_anew_total", "topic"), "begun anew, {{topic}}"),
        steps=ANY,
    ),
]

DEVICES: list[Panel] = [
    series(
        "Devices online by worker",
        "Many that fall silent at once are one alert.",
        "short",
        Prom(f"sum by (instance) ({of('iot_devices_online')})", "{{instance}}"),
        extra=STACKED,
    ),
    series(
        "Alert events",
        "Sent to the outbox, a second, by status and severity; suppressed ones are sent to nobody.",
        "eps",
        Prom(rate("iot_alerts_total", "status, severity"), "{{status}} {{severity}}"),
        Prom(rate("iot_alerts_suppressed_total"), "suppressed"),
    ),
    series(
        "Silence",
        "Claims of inactivity, and partitions where nobody is taken for silent, as they are new or behind.",
        "short",
        Prom(gained("iot_silence_claims_total"), "claims"),
        Prom(f"sum({of('iot_silence_suspended_partitions')})", "partitions not watched"),
        Prom(f"max({of('iot_mass_silence')})", "mass silence"),
        Prom(f"sum({of('iot_mass_silence_users')})", "users with mass silence"),
    ),
    series(
        "Rules",
        "Users whose rules are applied, rule sets refused (the earlier ones stay), configurations left out as the"
        " table has a newer one.",
        "short",
        Prom(f"max({of('iot_rules_users')})", "users"),
        Prom(gained("iot_rules_refused_total"), "refused"),
        Prom(gained("iot_configs_left_out_total"), "left out"),
    ),
    series(
        "Clocks of devices",
        "By how much the time in a reading was ahead of its arrival, and clocks that were set back.",
        "s",
        Prom(quantile(0.5, "iot_clock_skew_seconds"), "median"),
        Prom(quantile(0.99, "iot_clock_skew_seconds"), "99 %"),
        Prom(gained("iot_clocks_set_back_total"), "set back"),
        overrides=(column("set back", unit="short", custom__axisPlacement="right"),),
        extra={},
    ),
    series(
        "States in memory",
        "Devices whose state is held, and states that could not be read.",
        "short",
        Prom(f"sum by (instance) ({of('iot_state_keys')})", "{{instance}}"),
        Prom(gained("iot_states_unreadable_total"), "unreadable"),
        Prom(gained("iot_alert_rows_refused_total"), "alert rows refused"),
    ),
    series(
        "Devices that have a state",
        "Where IOT_DEVICE_STATES_MAX sets a limit: how many, of whom most, and new ones that got none.",
        "short",
        Prom(f"sum by (instance) ({of('iot_device_states')})", "{{instance}}"),
        Prom(f"topk(5, sum by (user) ({of('iot_device_states_top')}))", "{{user}}"),
        Prom(f"sum({of('iot_device_states_over')})", "about so many got none"),
        Prom(gained("iot_device_states_turned_away_total", "limit"), "turned away, limit of the {{limit}}"),
    ),
]
