"""`iot-stream history`: wrong arguments, which end with exit code 2 before any server is asked; and what is shown."""

import pytest
from aiokafka import TopicPartition
from typer.testing import CliRunner

from app.cli.main import build
from app.cli.render.history import course_lines, member_lines, replay_lines, replay_progress, reset_lines
from app.history.counts import HistoryCounts
from app.history.course import HistoryCourse
from app.history.reset import OffsetMove, ResetPlan
from app.kafka.group_state import GroupMember


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reset"], "one of --since, --until, --offset, --to-earliest"),
        (["reset", "--since", "1h", "--to-earliest"], "--since and --to-earliest do not go together"),
        (["reset", "--until", "1h", "--offset", "3"], "--until and --offset do not go together"),
        (["reset", "--since", "yesterday"], "--since"),
        (["reset", "--until", "2026-11-21T09:00:00"], "2026-11-21T09:00:00Z"),
        (["reset", "--offset", "3:1-5"], "name one offset"),
        (["reset", "--offset", "3:1-"], "name one offset"),
        (["reset", "--offset", "three"], "--offset"),
        (["reset", "--to-earliest", "--partition", "-1"], "--partition"),
        (["replay"], "--into"),
        (["replay", "--into", "Readings"], "no name of a table"),
        (["replay", "--into", "t; DROP TABLE t"], "no name of a table"),
        (["replay", "--into", "t", "--since", "1h", "--until", "2h"], "--until"),
        (["replay", "--into", "t", "--offset", "3:9-1"], "--offset"),
        (["replay", "--into", "t", "--timeout", "0"], "--timeout"),
        (["export", "--output", ""], "name a file or a directory"),
        (["export", "--output", "x.txt"], "ends neither in .parquet nor in .csv"),
        (["export", "--output", "x.parquet", "--format", "csv"], "x.parquet is to be csv: name it .csv"),
        (["forward"], "forward"),
    ],
)
def test_a_wrong_argument_is_named(words: list[str], said: str) -> None:
    done = CliRunner().invoke(build("history"), ["history", *words], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert said in done.output


MOVES = (
    OffsetMove(0, 1_204, 1_204, 310, 1_795_230_000_000, 1_795_226_400_000),
    OffsetMove(1, None, 0, 20, None, None),
    OffsetMove(11, 5, 5, 5),
)


def test_a_reset_is_shown_partition_by_partition() -> None:
    lines = list(reset_lines("iot-worker", ResetPlan("iot-stream", "log=x", MOVES), done=False))
    assert lines[:5] == [
        "group iot-worker, topic iot-stream",
        "partition   from                   written   to                   written         records",
        "        0  1,204  2026-11-21T03:00:00.000Z  310  2026-11-21T02:00:00.000Z       894 again",
        "        1    (0)                         -   20                         -  20 passed over",
        "       11      5                         -    5                         -               -",
    ]
    assert lines[5].startswith("894 would be read again: ")
    assert lines[6] == "20 would be passed over: no worker stores these records"
    done = list(reset_lines("iot-worker", ResetPlan("iot-stream", "log=x", MOVES), done=True))
    assert done[6] == "20 are passed over: no worker stores these records"
    assert "go on where they are" in list(reset_lines("g", ResetPlan("t", "", MOVES[2:]), done=True))[-1]


def test_members_are_named() -> None:
    members = [GroupMember("iot-worker-0", "10.0.0.7", (0, 3)), GroupMember("iot-worker-1", "10.0.0.8")]
    lines = list(member_lines("iot-worker", members, will_be_stopped=False))
    assert lines[0] == "the group iot-worker has 2 members; stop them first"
    assert lines[1:3] == [
        "    iot-worker-0 at 10.0.0.7 with partitions 0, 3", "    iot-worker-1 at 10.0.0.8 with no partition",
    ]  # fmt: skip
    assert "would be stopped" in next(iter(member_lines("g", members[:1], will_be_stopped=True)))
    assert list(member_lines("g", [], will_be_stopped=False)) == []


def test_what_became_of_a_replay_is_shown() -> None:
    counts = HistoryCounts(read=100, stored=80, there=5, again=2, other=3)
    counts.dead["bad_json"] = 8
    counts.dropped["retained"] = 2
    counts.examples["bad_json"] = ["3:8 not \x1b[2J JSON"]
    *lines, last = replay_lines(counts, '"again"', 2.0)
    assert lines == ["8 dead: bad_json", "    3:8 not \\x1b[2J JSON", "2 dropped by policy: retained"]
    assert last == (
        '80 rows stored into "again", 5 there before, 2 redelivered, 3 settings and the like, 8 dead, 2 dropped; '
        "100 records in 2 s (50/s)"
    )
    assert replay_progress(counts, 300, 2.0) == "80 rows of 100 records, 300 left, 50/s, 6 s to go"
    assert replay_progress(HistoryCounts(), 300, 0.0) == "0 rows of 0 records, 300 left, 0/s"
    tps = [TopicPartition("in", number) for number in range(3)]
    course = HistoryCourse(dict.fromkeys(tps, 5), {tps[0]: 1_005, tps[1]: 5, tps[2]: 6}, {})
    assert list(course_lines("in", "t", course)) == [
        "1,001 records of in would be stored into t",
        "    partition 0: offsets 5 to 1,004",
        "    partition 2: offsets 5 to 5",
    ]
