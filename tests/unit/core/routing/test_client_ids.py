"""Client ids and shares that only who has the password can know."""

from pathlib import Path
from typing import Any

import pytest

from app.cli.programs import bridge, notifier
from app.core.routing.client_ids import client_id, share
from app.settings import Settings


def test_all_who_have_the_password_agree_and_nobody_else() -> None:
    assert client_id("b-1", "secret") == client_id("b-1", "secret")
    different = {
        client_id("b-1", "secret"),
        client_id("b-1", "other"),
        client_id("b-2", "secret"),
        share("b-1", "secret"),
    }
    assert len(different) == 4
    assert client_id("b-1", "secret").startswith("b-1-"), "EMQX binds accounts to what their ids begin with"
    assert len(client_id("b-1", "secret").removeprefix("b-1-")) == 32


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_password_they_are_as_configured(secret: str | None) -> None:
    assert (client_id("b-1", secret), share("s", secret)) == ("b-1", "s")


def test_bridge_and_notifier_use_them_unless_the_broker_binds_ids(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a long password\n")
    given: dict[str, Any] = {
        "mqtt_password_file": tmp_path / "password",
        "bridge_share": "fleet",
        "bridge_filters": ("users/#",),
    }
    made = Settings(**given)
    assert bridge.build_login(made).client_id == client_id("iot-bridge-1", "a long password")
    assert bridge.filters(made) == (f"$share/{share('fleet', 'a long password')}/users/#",)
    assert notifier.account(made).client_id == client_id("iot-notifier-1", "a long password")
    bound = Settings(**given, mqtt_guarded_ids=False)
    assert bridge.build_login(bound).client_id == "iot-bridge-1"
    assert bridge.filters(bound) == ("$share/fleet/users/#",)
    assert notifier.account(bound).client_id == "iot-notifier-1"
