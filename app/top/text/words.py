"""Numbers as a person reads them: a number or None in, a few characters out; `-` for what is not known."""

UNKNOWN = "-"
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))


def count(number: float | None) -> str:
    """A whole number; from 10,000 on three of its digits: 12.3k, 4.56M."""
    if number is None:
        return UNKNOWN
    if abs(number) < 9999.5:
        return f"{number:,.0f}"
    for least, unit in _LARGE:
        if abs(number) >= least * 0.99995:
            share = number / (1e3 if unit == "k" else least)
            return f"{share:.{max(0, 3 - len(f'{abs(share):.0f}'))}f}{unit}"
    return f"{number:,.0f}"


def whole(number: float | None) -> str:
    """A whole number with every digit: for the books, where one record matters."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def rate(number: float | None) -> str:
    """A number a second: one digit after the point where the number is small."""
    if number is None:
        return UNKNOWN
    return f"{number:.1f}" if 0 < number < 9.95 else count(number)


def seconds(number: float | None) -> str:
    """A time given in seconds, in its two largest units: 250ms, 5.0s, 1m30s, 2h5m, 3d4h."""
    if number is None:
        return UNKNOWN
    if number < 0.9995:
        return f"{number * 1000:.0f}ms" if number else "0s"
    if number < 59.95:
        return f"{number:.1f}s" if number < 9.95 else f"{number:.0f}s"
    for size, large, small in ((60, "m", "s"), (3600, "h", "m"), (86400, "d", "h")):
        part = size // 60 if size < 86400 else 3600
        if number < size * (24 if size == 3600 else 60) or large == "d":
            return f"{int(number // size):,}{large}{int(number % size // part)}{small}"
    return UNKNOWN


def size(number: float | None) -> str:
    """A number of bytes, in binary units."""
    if number is None:
        return UNKNOWN
    for unit in ("B", "K", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.0f}{unit}"
        number /= 1024
    return f"{number:,.1f}T"


def percent(share: float | None) -> str:
    """A share as percent."""
    return UNKNOWN if share is None else f"{share * 100:.0f}%"
