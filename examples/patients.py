"""Monitors at the bed. The ward is the user, the monitor the device; names and birthdays stay out of the stream."""

from typing import Annotated

from msgspec import Struct

from app.core.schema.column_types import Fields, Int16


class Vitals(Struct):
    """What a monitor measures every second; a lead that fell off is null."""

    pulse: Annotated[Int16 | None, Fields("hr", "pulse")] = None
    spo2: Int16 | None = None
    systolic: Annotated[Int16 | None, Fields("nibp_sys")] = None
    diastolic: Annotated[Int16 | None, Fields("nibp_dia")] = None
    celsius: float | None = None
    leads_off: bool | None = None


RULES: list[dict[str, object]] = [
    {"key": "spo2", "operator": "<", "threshold": 88, "clear_threshold": 92, "severity": "critical",
     "message": "oxygen is low"},
    {"id": "fever", "all": [{"key": "celsius", "operator": ">", "threshold": 38.5},
                            {"key": "pulse", "operator": ">", "threshold": 110}], "message": "fever and a fast pulse"},
]  # fmt: skip
READINGS: list[dict[str, object]] = [
    {"hr": 72, "spo2": 98, "nibp_sys": 121, "nibp_dia": 79, "celsius": 36.8, "leads_off": False},
    {"hr": 75, "spo2": 84, "celsius": 36.9, "firmware": "4.1"},
    {"hr": 131, "spo2": None, "celsius": 39.2, "leads_off": True},
]
