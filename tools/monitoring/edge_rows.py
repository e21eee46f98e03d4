"""Rows of the operations dashboard: ways in, ways out, traces and logs, and the processes themselves."""

from tools.monitoring.panels import LogQl, Panel, Prom, TraceQl, column, renamed, series, table
from tools.monitoring.queries import ANY, RATE, above, gained, of, quantile, rate

BRIDGE: list[Panel] = [
    series(
        "Messages from MQTT",
        "By kind, of the bridge; or all of Vector's.",
        "mps",
        Prom(rate("iot_bridge_messages_total", "kind"), "{{kind}}"),
        Prom(rate("vector_component_received_events_total", labels='component_id="mqtt_in"'), "Vector"),
        Prom(rate("iot_bridge_payload_bytes_total"), "payload"),
        overrides=(column("payload", unit="Bps", custom__axisPlacement="right"),),
    ),
    series(
        "Written and acknowledged",
        "Records that Kafka has acknowledged, messages acknowledged to the broker after that.",
        "mps",
        Prom(rate("iot_bridge_written_total"), "written"),
        Prom(rate("iot_bridge_acked_total"), "acknowledged"),
        Prom(rate("iot_bridge_ignored_total"), "own outputs"),
    ),
    series(
        "Not taken as they came",
        "Over a limit, refused by Kafka, damaged; and what Vector discarded though it was not meant to.",
        "mps",
        Prom(rate("iot_bridge_limited_total", "outcome"), "over a limit: {{outcome}}"),
        Prom(rate("iot_bridge_refused_total", "outcome"), "refused: {{outcome}}"),
        Prom(rate("iot_bridge_damaged_total"), "damaged"),
        Prom(rate("vector_component_discarded_events_total", labels='intentional="false"'), "Vector discards"),
    ),
    series(
        "Under way",
        "Messages taken and not yet acknowledged, and their bytes. At the limit the broker waits.",
        "short",
        Prom(f"sum by (instance) ({of('iot_bridge_in_flight')})", "messages {{instance}}"),
        Prom(f"sum ({of('iot_bridge_buffered_bytes')})", "bytes"),
        Prom(f"max ({of('iot_bridge_waiting_seconds')})", "oldest waits"),
        overrides=(
            column("bytes", unit="bytes", custom__axisPlacement="right"),
            column("oldest waits", unit="s", custom__axisPlacement="right"),
        ),
    ),
    series(
        "Write to Kafka",
        "From the start of a write to the ack of all of it.",
        "s",
        Prom(quantile(0.5, "iot_bridge_write_seconds"), "median"),
        Prom(quantile(0.95, "iot_bridge_write_seconds"), "95 %", exemplar=True),
        steps=above((1, "yellow"), (5, "red")),
    ),
    series(
        "Connection",
        "1 while connected and subscribed; connections lost or refused, sessions the broker had lost (with what"
        " it had queued), writes to Kafka that were tried again.",
        "short",
        Prom(f"min by (instance) ({of('iot_bridge_connected')})", "MQTT {{instance}}"),
        Prom(f"min by (instance) ({of('iot_bridge_kafka_connected')})", "Kafka {{instance}}"),
        Prom(f"max by (instance) ({of('iot_bridge_paused')})", "paused {{instance}}"),
        Prom(gained("iot_bridge_reconnects_total"), "reconnects"),
        Prom(gained("iot_bridge_sessions_lost_total"), "sessions lost"),
        Prom(gained("iot_bridge_kafka_failures_total"), "Kafka failures"),
    ),
    table(
        "Users with most messages",
        "Of the 20 with most and of all others, since the start of the bridge.",
        Prom(f"sum by (user) ({of('iot_bridge_top_messages')})", instant=True),
        Prom(f"sum by (user) ({of('iot_bridge_top_bytes')})", instant=True),
        Prom(f"sum by (user) ({of('iot_bridge_top_limited')})", instant=True),
        width=24,
        unit="short",
        transformations=(
            {"id": "merge", "options": {}},
            renamed(**{"Value #A": "messages", "Value #B": "bytes", "Value #C": "over a limit"}),
            {"id": "sortBy", "options": {"sort": [{"field": "messages", "desc": True}]}},
        ),
        overrides=(column("bytes", unit="bytes"),),
    ),
]

NOTIFIER: list[Panel] = [
    series(
        "Alerts out",
        "Messages acknowledged by the MQTT broker, events that the webhook has taken, and messages to channels.",
        "eps",
        Prom(rate("iot_notifier_published_total", "status"), "{{status}}"),
        Prom(rate("iot_webhook_posted_total", "status"), "webhook {{status}}"),
        Prom(rate("iot_channel_messages_total", "result"), "channels {{result}}"),
    ),
    series(
        "The oldest alert waits",
        "By consumer group: the MQTT broker (notifier), the webhook and the channels.",
        "s",
        Prom(f"max by (group) ({of('iot_notifier_waiting_seconds')})", "{{group}}"),
        steps=above((60, "red")),
    ),
    series(
        "Alerts that wait",
        "Records of the alert topic that are not done, and those in hand, by consumer group.",
        "short",
        Prom(f"sum by (group) ({of('iot_notifier_consumer_lag')})", "waiting, {{group}}"),
        Prom(f"sum by (group) ({of('iot_notifier_in_hand')})", "in hand, {{group}}"),
        Prom(rate("iot_notifier_taken_total", "group"), "taken/s, {{group}}"),
    ),
    series(
        "Time to deliver",
        "From PUBLISH to the broker's PUBACK, and of one request to the webhook by its result.",
        "s",
        Prom(quantile(0.5, "iot_notifier_publish_seconds"), "MQTT, median"),
        Prom(quantile(0.95, "iot_notifier_publish_seconds"), "MQTT, 95 %"),
        Prom(quantile(0.95, "iot_webhook_seconds", "result"), "webhook, 95 %, {{result}}"),
    ),
    series(
        "MQTT connection of the notifier",
        "1 while the broker has accepted it.",
        "none",
        Prom(f"min by (instance) ({of('iot_notifier_connected')})", "{{instance}}"),
        extra={"min": 0, "max": 1},
    ),
    series(
        "Steps that failed",
        "And were tried again: alerts wait in Kafka.",
        "ops",
        Prom(rate("iot_notifier_failures_total", "step"), "{{step}}"),
    ),
    series(
        "Held and delayed",
        "Above a user's budget, sent in a digest; sent long after they happened; repeats left out.",
        "short",
        Prom(gained("iot_notifier_held_total"), "held"),
        Prom(gained("iot_notifier_delayed_total"), "delayed"),
        Prom(gained("iot_notifier_repeats_total"), "repeats"),
    ),
    series(
        "Never sent",
        "Left out by the broker or the webhook though others are taken, refused by the webhook, no alert at"
        " all; suspects are set aside.",
        "short",
        Prom(gained("iot_notifier_left_out_total"), "left out"),
        Prom(gained("iot_webhook_left_out_total"), "webhook left out"),
        Prom(gained("iot_webhook_refused_total"), "webhook refuses"),
        Prom(gained("iot_notifier_invalid_total"), "invalid"),
        Prom(gained("iot_notifier_unrecorded_total"), "unrecorded"),
        Prom(f"sum({of('iot_notifier_suspects')})", "suspects"),
        steps=ANY,
    ),
    series(
        "Answers",
        "To refused rules and commands, by what became of them.",
        "short",
        Prom(gained("iot_notifier_answers_total", "outcome"), "{{outcome}}"),
    ),
]

TRACES: list[Panel] = [
    table(
        "Traces with an error",
        "Dead letters, refused rows, errors: always traced, at most IOT_TRACE_ALWAYS_PER_SECOND. A"
        " span leads to its logs.",
        TraceQl('{ resource.service.name =~ "iot-stream.*" && status = error }'),
        width=12,
    ),
    series(
        "Spans and contexts left out",
        "Spans dropped (the queue was full or the collector away), contexts of messages that"
        " are no traceparent, traces over the limit.",
        "short",
        Prom(gained("iot_trace_spans_dropped_total"), "spans dropped"),
        Prom(gained("iot_trace_contexts_invalid_total"), "contexts invalid"),
        Prom(gained("iot_trace_always_limited_total"), "over the limit"),
        Prom(gained("iot_trace_incoming_limited_total"), "of devices, over their budget"),
        width=12,
    ),
    Panel(
        "logs",
        "Warnings and errors",
        "Of all programs. Open a line: its trace_id leads to the trace.",
        (LogQl('{service_name=~"iot-stream.*"} | json level="level" | level=~"warning|error|critical"'),),
        "none",
        width=24,
        height=10,
    ),
]

PROCESSES: list[Panel] = [
    series(
        "Memory",
        "Resident, of each process.",
        "bytes",
        Prom(of("process_resident_memory_bytes"), "{{job}} {{instance}}"),
    ),
    series(
        "CPU",
        "Cores in use. A worker uses one at most.",
        "percentunit",
        Prom(f"rate({of('process_cpu_seconds_total')}[{RATE}])", "{{job}} {{instance}}"),
        steps=above((0.8, "yellow")),
    ),
    series(
        "Open files",
        "Of the most that the process may have.",
        "percentunit",
        Prom(f"{of('process_open_fds')} / {of('process_max_fds')}", "{{job}} {{instance}}"),
        steps=above((0.8, "red")),
        extra={"min": 0, "max": 1},
    ),
    series(
        "Free on the volume of the states",
        "Of IOT_STATE_DIR. What is lost there is read again from Kafka; a full one stops the worker.",
        "bytes",
        Prom(of("iot_state_dir_free_bytes"), "{{instance}}"),
        steps=((None, "red"), (536870912, "green")),
    ),
    series(
        "Certificates end in",
        "Of the CA and certificate files that a program has for a connection. It reads them when it starts.",
        "s",
        Prom(
            f"min by (connection, file) ({of('iot_certificate_expiry_timestamp_seconds')}) - time()",
            "{{connection}} {{file}}",
        ),
        steps=((None, "red"), (259200, "yellow"), (1814400, "green")),
    ),
    table(
        "Versions",
        "Of each program, and how long it has run.",
        Prom(f"max by (job, instance, program, version) ({of('iot_build_info')})", instant=True),
        Prom(f"max by (job, instance) (time() - {of('process_start_time_seconds')})", instant=True),
        width=24,
        transformations=(
            {"id": "merge", "options": {}},
            renamed(**{"Value #A": "", "Value #B": "up for"}),
        ),
        overrides=(column("up for", unit="s"),),
    ),
    series(
        "Targets",
        "What Prometheus asks: 1 while it answers.",
        "none",
        Prom("min by (job) (up)", "{{job}}"),
        extra={"min": 0, "max": 1},
    ),
]
