"""The log and the metrics of devices over the limit."""

from structlog.testing import capture_logs

from app.ops import metrics
from app.settings import Settings
from app.worker.device_states import DeviceStates


def test_without_a_limit_there_is_nothing_to_hold_to() -> None:
    assert DeviceStates.of(Settings(_env_file=None)) is None
    assert DeviceStates.of(Settings(_env_file=None, device_states_tenant_max=5)) is not None


def test_the_log_names_the_user_once_a_minute_and_the_metrics_count() -> None:
    now = [0.0]
    states = DeviceStates(10, 0, lambda: now[0])
    before = metrics.DEVICES_TURNED_AWAY.labels("worker")._value.get()
    with capture_logs() as lines:
        for number in range(130):
            now[0] = float(number)
            states.limit.admits(0, ("bob", f"d{number}"), has_state=False)
    states.show()
    assert [line["event"] for line in lines] == ["Cardinality limit exceeded"] * 2
    assert {(line["user"], line["limit"]) for line in lines} == {("bob", "worker: 10")}
    assert lines[1]["devices"] == 60
    assert metrics.DEVICES_TURNED_AWAY.labels("worker")._value.get() - before == 120
    assert (metrics.DEVICE_STATES._value.get(), metrics.TOP_DEVICE_STATES.labels("bob")._value.get()) == (10, 10)
    assert abs(metrics.DEVICES_OVER._value.get() - 120) <= 6
