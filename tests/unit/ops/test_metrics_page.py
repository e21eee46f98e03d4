"""What Prometheus is given."""

from prometheus_client import generate_latest

import app.ops.health
from app.ops import metrics


def test_no_counter_has_a_second_series_that_says_when_it_was_made() -> None:
    assert app.ops.health.CLOSE_SECONDS > 0  # every program imports it
    metrics.RECEIVED.labels("telemetry").inc(0)
    page = generate_latest().decode()
    assert "iot_messages_received_total{" in page
    assert "_created" not in page
