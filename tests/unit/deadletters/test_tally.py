"""ReplayCounts of a listing."""

from app.cli.render.dlq import tally_lines
from app.core.model.records import Reason
from app.deadletters.tally import LetterTally
from tests.unit.deadletters.letters import held, letter, plain
from tests.unit.records import NOW_MS

HOUR = 3_600_000


def test_letters_are_counted_by_all_that_is_known_of_them() -> None:
    tally = LetterTally(NOW_MS)
    for number in range(12):
        tally.add(letter(held(user=f"u{number % 2}", device=f"d{number}", timestamp=NOW_MS - number * HOUR)))
    tally.add(letter(held(reason=Reason.BAD_TIME, more=[("replay_count", b"2")], timestamp=NOW_MS - 40 * 24 * HOUR)))
    tally.add(letter(plain()))
    tally.unreadable = 3
    found = tally.as_json()
    assert (found["letters"], found["unreadable"]) == (14, 3)
    assert found["reasons"] == {"bad_json": 12, "bad_time": 1, "other": 1}
    assert found["stages"] == {"decode": 13, "-": 1}
    assert found["users"][0] == {"user_id": "u1", "letters": 8}
    assert (found["users_in_all"], len(found["devices"]), found["devices_in_all"]) == (2, 10, 12)
    assert found["replays"] == {"0": 13, "2": 1}
    assert found["ages"] == {
        "1 minute": 2, "1 hour": 0, "6 hours": 5, "1 day": 6, "7 days": 0, "30 days": 0, "older": 1,
    }  # fmt: skip
    assert (found["oldest_ms"], found["newest_ms"]) == (NOW_MS - 40 * 24 * HOUR, NOW_MS)
    text = "\n".join(tally_lines(tally))
    assert "bad_json         12  ##############################" in text
    assert "... of 12" in text


def test_nothing_is_said_to_be_nothing() -> None:
    assert list(tally_lines(LetterTally(NOW_MS))) == ["no dead letters"]


def test_no_id_acts_on_a_terminal() -> None:
    tally = LetterTally(NOW_MS)
    tally.add(letter(plain(b"{}", original_topic="users/\x1b]0;owned\x07/x", reason="\x9b31m")))
    assert all(char.isprintable() or char == "\n" for char in "\n".join(tally_lines(tally)))
