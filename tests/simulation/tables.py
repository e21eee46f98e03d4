"""What the tables of the simulated database must hold when everything has drained."""

from collections.abc import Sequence

from tests.simulation.database import Database
from tests.simulation.oracle import Oracle

AlertEventKey = tuple[str, str, int]  # alert_id, status, repeat: what makes an event another one


class BrokenPromise(AssertionError):
    """What was promised and does not hold."""


def ensure(holds: bool, otherwise: str) -> None:
    """Raises BrokenPromise."""
    if not holds:
        raise BrokenPromise(otherwise)


def alerts_are_those_sent(database: Database, reported: set[AlertEventKey]) -> None:
    """Of active_alerts and alert_history."""
    over = {alert for alert, status, _ in reported if status == "RESOLVED"}
    open_now = {alert for alert, status, _ in reported if status == "FIRING"} - over
    found = {row[3] for row in database.active.values()}
    ensure(found == open_now, f"P5 active_alerts has {found}, and {open_now} are open")
    ensure(database.history == reported, f"P5 alert_history has {database.history}, and {reported} were told")


def averages_are(database: Database, oracles: Sequence[Oracle]) -> None:
    """Of rolling_averages: each row is what the log says after its last reading."""
    last = {row[:4]: row for oracle in oracles for rows in oracle.averages.values() for row in rows[-1:]}
    ensure(database.averages == last, f"rolling_averages has {database.averages} instead of {last}")


def clocks_are(database: Database, oracles: Sequence[Oracle]) -> None:
    """Of device_status: each time that a device's clock was set back."""
    wanted = {row for oracle in oracles for row in oracle.set_back}
    found = {row for rows in database.set_back.values() for row in rows}
    ensure(found == wanted, f"device_status was told of clocks {found} instead of {wanted}")


def everybody_is_offline(database: Database, oracles: Sequence[Oracle]) -> None:
    """Of device_status, when all have been silent for long."""
    wanted = {name.removesuffix("/"): "offline" for oracle in oracles for name in oracle.lives}
    found = {key: row[3] for key, row in database.statuses.items() if key in wanted}
    ensure(found == wanted, f"device_status has {found} instead of {wanted}")
