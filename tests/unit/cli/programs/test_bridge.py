"""What the bridge subscribes to."""

import pytest

from app.cli.programs.bridge import filters
from app.settings import Settings


@pytest.mark.parametrize(
    ("share", "expected"),
    [("fleet", ("$share/fleet/users/#", "$share/fleet/iot/#")), ("-", ("users/#", "iot/#"))],
)
def test_a_share_is_part_of_every_filter_unless_there_is_none(share: str, expected: tuple[str, ...]) -> None:
    assert filters(Settings(bridge_share=share, bridge_filters=("users/#", "iot/#"))) == expected
