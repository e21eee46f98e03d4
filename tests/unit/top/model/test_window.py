"""Growth of the last while, and quantiles as Prometheus computes them."""

import pytest

from app.top.model.window import GrowthWindow, quantile

BUCKETS = {"0.1": 50.0, "0.5": 90.0, "1.0": 99.0, "+Inf": 100.0}


@pytest.mark.parametrize(
    ("share", "value"), [(0.25, 0.05), (0.5, 0.1), (0.7, 0.3), (0.99, 1.0), (0.995, 1.0), (0.9, 0.5)]
)
def test_quantile(share: float, value: float) -> None:
    assert quantile(share, BUCKETS) == pytest.approx(value)


def test_quantile_of_nothing() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {"1": 0.0, "+Inf": 0.0}) is None
    assert quantile(0.5, {"what": 3.0, "nan": 2.0}) is None


def test_a_window_forgets() -> None:
    window = GrowthWindow(60)
    window.add(0.0, {"a": 1000.0})  # before anybody looked
    assert window.rate(0.0) is None
    window.add(10.0, {"a": 5.0, "b": 1.0})
    assert window.sums() == {"a": 5.0, "b": 1.0}
    assert window.rate(10.0) == pytest.approx(0.6)
    window.add(40.0, {"a": 2.0})
    assert window.rate(40.0) == pytest.approx(8 / 40)
    window.add(70.0, {})
    assert window.sums() == {"a": 2.0}
    assert window.rate(70.0) == pytest.approx(2 / 60)
    window.add(200.0, {})
    assert window.rate(200.0) == 0.0
