"""A cheap test that certainly no rule of a device holds."""

import math
from collections.abc import Callable

from app.core.model.records import Reading
from app.core.rules.conditions import CompoundCondition
from app.core.rules.rule import Rule
from app.core.schema.codegen import Interval, within
from app.core.schema.schema import Schema

Prefilter = Callable[[Reading], bool]


def any_holds(rules: tuple[Rule, ...], reading: Reading) -> bool:
    """Whether any rule's condition holds: a question about every reading of a device without open episodes.

    False is certain; True may still be a value that cannot be reported (an integer beyond float64).
    """
    for rule in rules:
        value = rule.read(reading)
        if value is not None and rule.holds(value):
            return True
    return False


def prefilter_for(rules: tuple[Rule, ...], schema: Schema) -> Prefilter:
    """A quick test whether certainly none of `rules` holds, for every reading of a device at rest.

    `rules` are compiled for readings of `schema`. Thresholds on a column become one open interval, so most readings
    cost two comparisons a column (0.15 us instead of 0.3 us a rule); a value on or beyond its border is for any_holds
    to judge, and so are all other rules.
    """
    keys, bounds = schema.keys, dict[str, Interval]()
    unbounded, several = [], []
    for rule in rules:
        one = rule.condition
        if isinstance(one, CompoundCondition):
            several.append(one.might_hold)
        elif (column := keys.get(one.key)) is None or not column.type.ordered or one.operator == "==":
            unbounded.append(rule)
        else:
            low, high = bounds.get(column.name, (-math.inf, math.inf))
            limit = float(one.threshold)
            bounds[column.name] = (low, min(high, limit)) if one.operator in (">", ">=") else (max(low, limit), high)
    rest, mights = tuple(unbounded), tuple(several)
    usual = within(bounds)
    if not rest and not mights:
        return usual

    def quiet(reading: Reading) -> bool:
        if not usual(reading):
            return False
        if rest and any_holds(rest, reading):
            return False
        for might_hold in mights:  # noqa: SIM110  # a loop costs less than a generator
            if might_hold(reading):
                return False
        return True

    return quiet
