"""Numbers as a person reads them."""

import pytest

from app.top.text import words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"), (0, "0"), (9999, "9,999"), (10_000, "10.0k"), (12_345, "12.3k"), (999_960, "1.00M"),
        (1_234_567, "1.23M"), (123_456_789, "123M"), (7.89e9, "7.89G"), (1e15, "1000T"), (-20_000, "-20.0k"),
    ],
)  # fmt: skip
def test_count(number: float | None, text: str) -> None:
    assert words.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"), (0, "0s"), (0.0421, "42ms"), (1.25, "1.2s"), (59.9, "60s"), (42, "42s"), (75, "1m15s"),
        (3725, "1h2m"), (86400 * 3 + 3600 * 5, "3d5h"), (1e9, "11,574d1h"),
    ],
)  # fmt: skip
def test_seconds(number: float | None, text: str) -> None:
    assert words.seconds(number) == text


def test_the_others() -> None:
    assert list(map(words.rate, (None, 0, 0.25, 9.94, 10, 12_345))) == ["-", "0", "0.2", "9.9", "10", "12.3k"]
    assert list(map(words.size, (None, 0, 100 << 20, 3 << 30, 1 << 42))) == ["-", "0B", "100M", "3G", "4.0T"]
    assert list(map(words.whole, (None, 1234567.0))) == ["-", "1,234,567"]
    assert list(map(words.percent, (None, 0.456))) == ["-", "46%"]
