"""Every metric's name, type, labels and meaning; nothing else in the project names a metric.

Labels are bounded: reasons, kinds, stages, partitions. No devices, and of users only the users that send most.
"""

from prometheus_client import Counter, Gauge, Histogram

# Seconds. Writes take 1 ms (one row) to 100 ms (5,000 rows) on a healthy database.
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RECEIVED = Counter("iot_messages_received_total", "Records taken from Kafka and done with", ["kind"])
STORED = Counter("iot_rows_stored_total", "Rows of raw_telemetry newly stored, as the database counts them")
CARRIED_OUT = Counter(
    "iot_records_carried_out_total", "Records that leave no row of their own and were done: settings, status, commands"
)
DUPLICATE = Counter("iot_rows_duplicate_total", "Records that were stored already")
DEAD_LETTERS = Counter("iot_dead_letters_total", "Records sent to the dead-letter topic and acknowledged", ["reason"])
DEAD_LETTER_ROW = Gauge(
    "iot_dead_letters_in_a_row",
    "Dead letters since the last good batch, as the limit counts them: users a tenth",
)
DROPPED = Counter("iot_dropped_total", "Records left out on purpose", ["policy"])
LEDGER = Counter("iot_ledger_total", "Records of a partition by what became of them", ["partition", "outcome"])

BATCH_ROWS = Histogram("iot_batch_rows", "Records in a batch", buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 2500, 5000))
BATCH_SECONDS = Histogram("iot_batch_seconds", "Time a batch spends in a stage", ["stage"], buckets=_FAST)
EVENT_AGE = Histogram(
    "iot_event_age_seconds",
    "From the oldest event time of a batch to its ack",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 300, 3600, 86400),
)
LAG = Gauge("iot_consumer_lag", "Records in the topic after the last one done", ["partition"])
LAG_SECONDS = Gauge(
    "iot_consumer_lag_seconds", "For how long the oldest record that is not done has waited in the topic", ["partition"]
)
FRESHNESS = Gauge(
    "iot_tenant_freshness_seconds",
    "Since the newest stored reading of a tenant came in: of the tenants with most readings lately, and of the others"
    " the largest, as `other`; take the minimum over all workers",
    ["user"],
)
BUFFERED = Gauge("iot_buffered_bytes", "Memory of batches taken and not yet done (estimate)")
FETCHED = Gauge("iot_fetched_bytes", "Bytes fetched from Kafka and not yet taken, compressed as they came")
OFFSETS_MISSING = Counter("iot_offsets_missing_total", "Offsets the log no longer holds", ["partition"])
TOPIC_MADE_ANEW = Counter(
    "iot_topic_made_anew_total",
    "Partitions whose offsets began anew, as their topic is another one or was cut: input, or the changelog of states",
    ["topic"],
)
STATES_UNREADABLE = Counter(
    "iot_states_unreadable_total", "Stored states that cannot be read: their devices begin anew"
)
REBALANCES = Counter("iot_rebalances_total", "Times this worker handed back its partitions to join its group anew")
REBALANCE_SECONDS = Histogram(
    "iot_rebalance_seconds",
    "From giving up partitions until batches may come again",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
GAPS_HEALED = Counter("iot_gaps_healed_total", "Seeks back because a batch did not follow the batch before")

ALERTS = Counter("iot_alerts_total", "Alert events sent to the outbox", ["status", "severity"])
ALERTS_SUPPRESSED = Counter(
    "iot_alerts_suppressed_total", "Alert events of maintenance windows: in alert_history, sent to nobody"
)
ALERT_ROWS_REFUSED = Counter(
    "iot_alert_rows_refused_total", "Changes of active_alerts or alert_history that the database refuses; they are lost"
)
STATE_DIR_FREE = Gauge("iot_state_dir_free_bytes", "Free on the file system of IOT_STATE_DIR, for the worker's account")
STATE_KEYS = Gauge("iot_state_keys", "Devices whose state is held in memory")
DEVICE_STATES = Gauge(
    "iot_device_states", "Devices that have a state, of this worker's partitions; counted where there is a limit"
)
DEVICES_OVER = Gauge(
    "iot_device_states_over", "About how many devices got none since the start: new ones over IOT_DEVICE_STATES_MAX"
)
DEVICES_TURNED_AWAY = Counter(
    "iot_device_states_turned_away_total", "How often a device got none, by the limit: worker, tenant", ["limit"]
)
TOP_DEVICE_STATES = Gauge(
    "iot_device_states_top", "Of the 20 users with most devices that have a state, how many", ["user"]
)
RULES_REFUSED = Counter(
    "iot_rules_refused_total", "Rule sets refused whole, over MQTT or in user_configs; the old rules stay"
)
DEVICES_ONLINE = Gauge("iot_devices_online", "Devices and nodes that are online, of this worker's partitions")
SILENCE_CLAIMS = Counter("iot_silence_claims_total", "Claims that a device is silent, sent into the input topic")
SILENCE_SUSPENDED = Gauge(
    "iot_silence_suspended_partitions",
    "Partitions that are new here or behind: none of their devices is taken for silent",
)
MASS_SILENCE = Gauge("iot_mass_silence", "1 while so many devices are silent that none is reported on its own")
MASS_SILENCE_USERS = Gauge(
    "iot_mass_silence_users", "Users of whose own devices so many are silent that none is reported on its own"
)
CLOCK_SKEW = Histogram(
    "iot_clock_skew_seconds",
    "By how much the time in a reading was ahead of its arrival; of each device now and then, see docs/presence.md",
    buckets=(-86400, -3600, -300, -60, -10, -1, 0, 1, 10, 60, 300, 3600, 86400),
)
CLOCKS_SET_BACK = Counter(
    "iot_clocks_set_back_total",
    "How often the clock of a device was set back, after which rules follow that clock; device_status has the devices",
)
RULES_USERS = Gauge("iot_rules_users", "Users whose rules this worker applies")

DB_WRITE_SECONDS = Histogram("iot_db_write_seconds", "Time of one database transaction", buckets=_FAST)
COPIED_ROWS = Counter("iot_rows_copied_directly_total", "Rows that COPY put straight into raw_telemetry, unstaged")
COPIES_FAILED = Counter(
    "iot_direct_copies_failed_total",
    "COPYs into raw_telemetry that met a duplicate or a bad row; their rows are staged",
)
COPY_DEAD_ROWS = Counter(
    "iot_direct_copy_dead_rows_total", "Dead rows that such COPYs left in raw_telemetry for the vacuum, at most"
)
DB_FAILURES = Counter(
    "iot_db_failures_total",
    "Tries the database failed: transient (an outage) or permanent (an operator acts)",
    ["kind"],
)
DB_EXHAUSTED = Counter(
    "iot_db_exhausted_total", "Failed tries for which the database had no connection, disk or memory left", ["resource"]
)
LATE_WAITING = Gauge("iot_late_rows_waiting", "Late rows in the slow lane, not yet stored")
BREAKER_STATE = Gauge("db_circuit_breaker_state", "1 open, 0.5 half-open, 0 closed")
BREAKER_REJECTED = Counter("db_circuit_breaker_rejected_total", "Writes not tried because the breaker was open")
KAFKA_WRITE_HELD = Gauge(
    "iot_kafka_write_held", "1 while Kafka does not take what the worker writes to a topic; offsets are held", ["topic"]
)
OPERATOR_NEEDED = Gauge(
    "iot_operator_needed", "1 while the database or the topics are not as they must be, and only a human can mend that"
)
CONFIGS_LEFT_OUT = Counter(
    "iot_configs_left_out_total", "Configurations over MQTT that were not taken, because user_configs has a newer one"
)
