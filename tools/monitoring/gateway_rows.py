"""Rows of the operations dashboard: the gateways, HTTP, TCP, gRPC and QUIC."""

from tools.monitoring.panels import Panel, Prom, column, renamed, series, table
from tools.monitoring.queries import ANY, above, gained, of, quantile, rate

GATEWAYS: list[Panel] = [
    series(
        "Records of the gateways",
        "Answered as accepted, which is after Kafka's ack, by gateway; and what Kafka has acknowledged.",
        "recps",
        Prom(rate("iot_gateway_records_total", "gateway"), "{{gateway}}"),
        Prom(rate("iot_gateway_written_total"), "written"),
        Prom(rate("iot_gateway_payload_bytes_total"), "payload"),
        overrides=(column("payload", unit="Bps", custom__axisPlacement="right"),),
    ),
    series(
        "Requests of the gateways",
        "By how they ended: `unavailable` were answered to send again later, `partly` had items that were refused.",
        "ops",
        Prom(rate("iot_gateway_requests_total", "gateway, outcome"), "{{gateway}} {{outcome}}"),
    ),
    series(
        "Refused at the gateways",
        "Items, lines and requests by reason; over a limit; what Kafka refuses for ever.",
        "ops",
        Prom(rate("iot_gateway_rejected_total", "gateway, reason"), "{{gateway}} {{reason}}"),
        Prom(rate("iot_gateway_limited_total", "limit"), "limit: {{limit}}"),
        Prom(rate("iot_gateway_refused_total", "outcome"), "Kafka: {{outcome}}"),
    ),
    series(
        "Logins that were refused",
        "Wrong credentials, guesses that were slowed down, and those that nobody could judge as the database was away.",
        "short",
        Prom(gained("iot_gateway_refused_logins_total", "gateway, reason"), "{{gateway}} {{reason}}"),
        steps=ANY,
    ),
    series(
        "Not acknowledged by Kafka",
        "Records in hand, their memory, how long the oldest waits; 1 while nothing more is taken.",
        "short",
        Prom(f"sum by (instance) ({of('iot_gateway_unacked')})", "records {{instance}}"),
        Prom(f"sum ({of('iot_gateway_unacked_bytes')})", "bytes"),
        Prom(f"max ({of('iot_gateway_waiting_seconds')})", "oldest waits"),
        Prom(f"max by (instance) ({of('iot_gateway_full')})", "full {{instance}}"),
        overrides=(
            column("bytes", unit="bytes", custom__axisPlacement="right"),
            column("oldest waits", unit="s", custom__axisPlacement="right"),
        ),
    ),
    series(
        "From a submission to Kafka's ack",
        "What a sender waits for at the least, by gateway.",
        "s",
        Prom(quantile(0.5, "iot_gateway_ack_seconds", "gateway"), "median {{gateway}}"),
        Prom(quantile(0.99, "iot_gateway_ack_seconds", "gateway"), "99 % {{gateway}}"),
        steps=above((1, "yellow"), (5, "red")),
    ),
    series(
        "Connections of the gateways",
        "Open connections; whether Kafka takes what is written, and writes that were tried again.",
        "short",
        Prom(f"sum by (gateway) ({of('iot_gateway_connections')})", "{{gateway}}"),
        Prom(f"min by (instance) ({of('iot_gateway_kafka_connected')})", "Kafka {{instance}}"),
        Prom(gained("iot_gateway_kafka_failures_total"), "Kafka failures"),
    ),
    series(
        "Series of the QUIC gateway",
        "Devices and sensors that are remembered, and of the account with most; metrics of new ones over the limit.",
        "short",
        Prom(f"sum ({of('iot_gateway_series')})", "remembered"),
        Prom(f"max by (user) (topk(1, {of('iot_gateway_top_series')}))", "{{user}}"),
        Prom(rate("iot_gateway_series_over_limit_total", "outcome"), "over the limit: {{outcome}}"),
        Prom(rate("iot_gateway_series_untracked_total"), "not remembered"),
    ),
    table(
        "Users with most records at the gateways",
        "Of the 20 with most and of all others, since the start of the gateways.",
        Prom(f"sum by (user) ({of('iot_gateway_top_messages')})", instant=True),
        Prom(f"sum by (user) ({of('iot_gateway_top_bytes')})", instant=True),
        Prom(f"sum by (user) ({of('iot_gateway_top_limited')})", instant=True),
        width=24,
        unit="short",
        transformations=(
            {"id": "merge", "options": {}},
            renamed(**{"Value #A": "records", "Value #B": "bytes", "Value #C": "over a limit"}),
            {"id": "sortBy", "options": {"sort": [{"field": "records", "desc": True}]}},
        ),
        overrides=(column("bytes", unit="bytes"),),
    ),
]
