"""Ticks of a market: prices to the last digit. The venue is the user, the symbol the device."""

from decimal import Decimal
from typing import Annotated

from msgspec import Struct

from app.core.schema.column_types import Fields


class Tick(Struct):
    """One trade. A feed may send the price as a string, so that nothing on the way makes a float of it."""

    price: Annotated[Decimal, Fields("price", "p")]
    size: Annotated[int, Fields("size", "q")]
    side: str | None = None


RULES: list[dict[str, object]] = [
    {"key": "price", "operator": ">", "threshold": 70000, "clear_threshold": 69000, "message": "above 70,000"},
    {"key": "side", "operator": "==", "threshold": "halt", "severity": "critical", "message": "trading halted"},
]
READINGS: list[dict[str, object]] = [
    {"price": "69999.100000000000000001", "size": 12, "side": "buy"},
    {"p": 70000.25, "q": 9007199254740993, "side": "sell", "conditions": ["odd lot"]},
    {"price": "69000", "size": 0, "side": "halt"},
]
