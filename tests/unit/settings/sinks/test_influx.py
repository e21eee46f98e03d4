"""The settings of the sink influx, from an environment."""

import pytest

from app.errors import SettingsError
from app.settings.settings import read


@pytest.mark.parametrize(("said", "version"), [("1", 1), ("2", 2)])
def test_a_version_of_the_environment_is_a_number(said: str, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_INFLUX_VERSION", said)
    assert read().influx_version == version


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_INFLUX_VERSION", "3")
    with pytest.raises(SettingsError, match="IOT_INFLUX_VERSION: Input should be 1 or 2"):
        read()
