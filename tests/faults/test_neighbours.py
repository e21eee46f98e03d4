"""Accounts that misbehave beside an honest user, for fifteen seconds; longer: `python -m tools.faults.neighbours`."""

import pytest

from tools.faults.neighbours import run

pytestmark = [pytest.mark.integration, pytest.mark.faults]


async def test_an_honest_user_is_served_beside_accounts_that_misbehave() -> None:
    """All is stored and sent; how fast is not asserted, as that depends on the machine."""
    found = await run(10, 15.0, seed=3)
    assert found.ended == []
    assert (found.stored, found.reported) == (found.readings, found.alerts)
    assert found.messages > 0
    print(f"{found.messages} messages of others; alerts: half within {found.slowest(0.5):.2f} s")
