"""The ledger of a verification: its verdict, its books, and what a person and a machine are shown of it."""

import json

from app.cli.history.verify import exit_code
from app.cli.render.verify import verify_lines, verify_notes, verify_progress
from app.history.verification.ledger import ExampleList, ExtraRow, MissingRecord, VerifyLedger, VerifyVerdict
from app.inspect.text import json_line


def ledger() -> VerifyLedger:
    made = VerifyLedger("in", "iot-worker", "raw_telemetry", begin={0: 5, 1: 0}, end={0: 15, 1: 4}, at={0: 15, 1: 4})
    made.records, made.rows, made.repeats, made.dead, made.carried_out = 14, 8, 2, 1, 1
    made.dropped["cov"] += 2
    return made


def lost(partition: int, offset: int) -> MissingRecord:
    return MissingRecord(partition, offset, "row", "u/d, sequence_id 1 of 2026-11-21T02:00:00Z")


def test_without_a_missing_record_all_is_well() -> None:
    found = ledger()
    found.carried_out += 2
    assert (found.verdict, found.balances, exit_code(found, True)) == (VerifyVerdict.COMPLETE, True, 0)
    found.rows -= 1
    assert not found.balances


def test_a_missing_record_is_the_verdict_whatever_else_there_is() -> None:
    found = ledger()
    for place in ((1, 3), (0, 9), (1, 2)):
        found.lose(lost(*place), 2)
    assert (found.missing.count, len(found.missing.examples), found.first_missing) == (3, 2, {1: 2, 0: 9})
    found.interrupted = True
    assert (found.verdict, exit_code(found, False)) == (VerifyVerdict.MISSING, 1)
    said = list(verify_lines(found))
    assert said[0] == "missing: in against raw_telemetry"
    assert "  missing: in-1@3: no row: u/d, sequence_id 1 of 2026-11-21T02:00:00Z" in said
    assert "  and 1 more missing" in said
    assert any(note.endswith(": iot-stream history reset --offset 0:9 --offset 1:2") for note in verify_notes(found))


def test_extra_rows_and_doubtful_records_count_where_it_is_strict() -> None:
    found = ledger()
    found.extra = ExampleList(7, [ExtraRow("2026-11-21T02:00:00Z", "u\x1b", "d", -4)])
    found.extra_since = "2026-11-20T00:00:00Z"
    assert (exit_code(found, False), exit_code(found, True)) == (0, 1)
    said = "\n".join(verify_lines(found))
    assert "\x1b" not in said
    assert "sequence_id -4 of 2026-11-21T02:00:00Z" in said
    assert "  and 6 more extra" in said
    found.extra = ExampleList()
    assert exit_code(found, True) == 0
    found.doubtful.add(lost(0, 7), 5)
    assert (exit_code(found, False), exit_code(found, True)) == (0, 1)


def test_an_interrupted_one_says_how_to_go_on() -> None:
    found = ledger()
    found.at, found.interrupted, found.waiting = {0: 9, 1: 4}, True, 3
    assert (found.verdict, exit_code(found, False), found.left()) == (VerifyVerdict.INTERRUPTED, 130, ["0:9-14"])
    notes = list(verify_notes(found))
    assert "interrupted; to go on: --offset 0:9-14" in notes
    assert "3 records were not looked at, as the group iot-worker has not committed them yet" in notes
    assert verify_progress(found, 14, 2.0) == "8 of 14 records, 4/s, 2 s left"


def test_a_machine_is_given_all_of_it() -> None:
    found = ledger()
    found.lose(lost(1, 3), 5)
    said = json.loads(json_line(found.as_json()))
    assert said["verdict"] == "missing"
    assert said["missing"] == {
        "count": 1,
        "examples": [
            {"partition": 1, "offset": 3, "wanted": "row", "what": "u/d, sequence_id 1 of 2026-11-21T02:00:00Z"}
        ],
    }
    assert (said["dropped"], said["begin"], said["extra"]) == ({"cov": 2}, {"0": 5, "1": 0}, None)
