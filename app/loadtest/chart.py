"""Numbers -> one line chart as inline SVG, with a title, both axes and a legend. Pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from msgspec import Struct

WIDTH, HEIGHT = 820, 260
LEFT, RIGHT, TOP, BOTTOM = 74, 28, 40, 44
POINTS_MAX = 600  # of a line: more are not seen

Point = tuple[float, float]
Place = Callable[[float], float]  # where on the picture a value stands


class ChartLine(Struct, frozen=True):
    """One line of a chart; the page has a colour for each `kind`."""

    name: str
    kind: str
    points: Sequence[Point]


class Axis(Struct, frozen=True):
    """What an axis shows, and whether by its logarithm: values of 0 and below are left out then."""

    label: str
    log: bool = False


def chart(title: str, across: Axis, up: Axis, lines: Sequence[ChartLine]) -> str:
    """The chart; a sentence instead where no line has two points."""
    drawn = [(one, list(_thinned(_visible(one.points, across, up)))) for one in lines]
    drawn = [(one, points) for one, points in drawn if len(points) > 1]
    if not drawn:
        return f"<figure><figcaption>{escape(title)}: nothing was measured.</figcaption></figure>"
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    x_ticks, x_at = _scale(across, min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y_ticks, y_at = _scale(up, min(ys) if up.log else 0.0, max(ys), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>',
        *_grid(x_ticks, x_at, y_ticks, y_at),
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(across.label)}</text>",
        f'<text class="axis" x="{LEFT}" y="32">{escape(up.label)}</text>',
        *(_path(one, points, x_at, y_at) for one, points in drawn),
        *_legend([one for one, _ in drawn]),
        "</svg></figure>",
    ]
    return "\n".join(parts)


def _visible(points: Sequence[Point], across: Axis, up: Axis) -> list[Point]:
    return [(x, y) for x, y in points if (x > 0 or not across.log) and (y > 0 or not up.log)]


def _thinned(points: Sequence[Point]) -> Iterator[Point]:
    """At most POINTS_MAX of them; of neighbours the highest, so that no peak is lost."""
    step = max(1, math.ceil(len(points) / POINTS_MAX))
    for at in range(0, len(points), step):
        yield max(points[at : at + step], key=lambda point: point[1])


def _scale(axis: Axis, low: float, high: float, begin: float, end: float) -> tuple[Sequence[float], Place]:
    """The marks of an axis, and where a value stands on it."""
    if axis.log:
        first, last = math.floor(math.log10(low)), max(math.ceil(math.log10(high)), math.floor(math.log10(low)) + 1)
        return (
            [10.0**exponent for exponent in range(first, last + 1)],
            lambda value: begin + (end - begin) * (math.log10(value) - first) / (last - first),
        )
    step = _round_step((high - low) / 6 or 1.0)
    last_mark = max(math.ceil(high / step - 1e-9), math.floor(low / step) + 1)
    ticks = [step * mark for mark in range(math.floor(low / step), last_mark + 1)]
    return ticks, lambda value: begin + (end - begin) * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _round_step(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, ..."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def _grid(x_ticks: Sequence[float], x_at: Place, y_ticks: Sequence[float], y_at: Place) -> Iterator[str]:
    for tick in y_ticks:
        y = y_at(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>'
    for tick in x_ticks:
        x = x_at(tick)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:,.10g}</text>'


def _path(
    one: ChartLine, points: Sequence[Point], x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> str:
    steps = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in points)
    return f'<polyline class="{escape(one.kind)}" points="{steps}"><title>{escape(one.name)}</title></polyline>'


def _legend(lines: Sequence[ChartLine]) -> Iterator[str]:
    x = WIDTH - RIGHT - sum(38 + 7 * len(one.name) for one in lines)
    for one in lines:
        yield f'<line class="{escape(one.kind)}" x1="{x}" x2="{x + 18}" y1="16" y2="16"/>'
        yield f'<text class="tick" x="{x + 23}" y="20">{escape(one.name)}</text>'
        x += 38 + 7 * len(one.name)
