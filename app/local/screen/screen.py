"""What `iot-stream run` says without a terminal: figures in, a line out; and an alert in words. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.local.screen.figures import ScreenFigures


@dataclass(frozen=True)
class View:
    """What the screen says at one moment."""

    figures: ScreenFigures | None  # None: the worker does not answer
    rate: float  # messages a second
    unwell: Sequence[str]  # names of processes that do not run


def plain(view: View) -> str:
    """The view as one line of text."""
    if view.figures is None:
        return "the worker does not answer"
    f = view.figures
    line = (
        f"received {f.received}  stored {f.stored}  duplicate {f.duplicate}  dead letters {f.dead}"
        f"  alerts {sum(f.alerts.values())}  lag {f.lag}  rate {view.rate:.0f}/s"
    )
    return f"{line}  not running: {', '.join(view.unwell)}" if view.unwell else line


def alert_line(alert: Mapping[str, Any]) -> str:
    """An alert event as published over MQTT, in a line; fields that the event lacks are left empty."""
    device = f"{alert.get('user_id')}/{alert.get('device_id')}"
    what = [str(alert.get(name, "")) for name in ("status", "severity")]
    return " ".join(["alert", *what, device, str(alert.get("message", "")), str(alert.get("value", ""))]).rstrip()
