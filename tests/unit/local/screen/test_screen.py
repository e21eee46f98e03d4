"""From the text of /metrics to a line of `iot-stream run`."""

from app.local.screen.figures import ScreenFigures, read_figures
from app.local.screen.screen import View, alert_line, plain

METRICS = """\
# TYPE iot_messages_received_total counter
iot_messages_received_total{kind="telemetry"} 1000.0
iot_messages_received_total{kind="config"} 2.0
# TYPE iot_rows_stored_total counter
iot_rows_stored_total 990.0
# TYPE iot_rows_duplicate_total counter
iot_rows_duplicate_total 5.0
# TYPE iot_dead_letters_total counter
iot_dead_letters_total{reason="bad_json"} 3.0
iot_dead_letters_total{reason="bad_time"} 2.0
# TYPE iot_alerts_total counter
iot_alerts_total{severity="critical",status="FIRING"} 4.0
iot_alerts_total{severity="warning",status="FIRING"} 1.0
iot_alerts_total{severity="warning",status="RESOLVED"} 1.0
# TYPE iot_consumer_lag gauge
iot_consumer_lag{partition="0"} 7.0
iot_consumer_lag{partition="1"} 8.0
# TYPE db_circuit_breaker_state gauge
db_circuit_breaker_state 1.0
"""
ALERT = {
    "user_id": "u1", "device_id": "d1", "status": "FIRING", "severity": "critical", "message": "[red]too hot",
    "value": 81.5, "event_time": "2026-01-02T03:04:05Z",
}  # fmt: skip


def test_figures_are_summed_over_labels() -> None:
    figures = read_figures(METRICS)
    assert (figures.received, figures.stored, figures.duplicate, figures.dead, figures.lag) == (1002, 990, 5, 5, 15)
    assert figures.dead_letters == {"bad_json": 3, "bad_time": 2}
    assert figures.alerts == {"FIRING": 5, "RESOLVED": 1}
    assert read_figures("") == ScreenFigures()


def test_rate_is_never_negative() -> None:
    assert ScreenFigures(received=300).rate_since(ScreenFigures(received=100), 2.0) == 100
    assert ScreenFigures(received=3).rate_since(ScreenFigures(received=100), 2.0) == 0, "the worker started anew"


def test_an_alert_in_a_line() -> None:
    assert alert_line(ALERT) == "alert FIRING critical u1/d1 [red]too hot 81.5"


def test_plain_line() -> None:
    line = plain(View(read_figures(METRICS), 100.4, []))
    assert line == "received 1002  stored 990  duplicate 5  dead letters 5  alerts 6  lag 15  rate 100/s"
    assert plain(View(read_figures(METRICS), 1.0, ["bridge"])).endswith("  not running: bridge")
    assert plain(View(None, 0.0, ["worker"])) == "the worker does not answer"
