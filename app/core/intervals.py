"""Open intervals of columns -> one quick test whether all values of a reading lie within theirs."""

from collections.abc import Callable, Mapping

from app.core.compiled import bounds_maker
from app.core.model import Reading

Interval = tuple[float, float]  # both ends excluded


def within(bounds: Mapping[str, Interval]) -> Callable[[Reading], bool]:
    """A test of the named columns; one that a reading lacks is within."""
    return bounds_maker(tuple(bounds))(*(limit for interval in bounds.values() for limit in interval))
