"""Packages on their way: how heavy, where, and whether somebody opened them."""

from typing import Annotated

from msgspec import Struct

from app.core.schema.column_types import Fields, Int16


class Package(Struct):
    """One scan or one reading of the tracker in it; the package is the device."""

    weight_kg: Annotated[float, Fields("weight", "weight_kg")]
    hub: str | None = None
    latitude: Annotated[float | None, Fields("lat", "latitude")] = None
    longitude: Annotated[float | None, Fields("lon", "longitude")] = None
    shock_g: Annotated[Int16 | None, Fields("shock")] = None
    opened: bool | None = None


RULES: list[dict[str, object]] = [
    {"key": "shock_g", "operator": ">", "threshold": 50, "severity": "critical", "message": "dropped"},
    {"key": "opened", "operator": "==", "threshold": True, "message": "opened on its way"},
]
READINGS: list[dict[str, object]] = [
    {"weight": 2.4, "hub": "HAM-2", "lat": 53.55, "lon": 9.99, "shock": 3, "opened": False, "carrier": "north"},
    {"weight_kg": 2.4, "lat": 53.56, "lon": 10.0, "shock": 80, "opened": False},
    {"weight": 2.4, "hub": "BRE-1", "shock": 2, "opened": True, "seal": {"intact": False}},
]
