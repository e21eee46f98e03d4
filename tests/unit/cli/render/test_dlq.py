"""What `iot-stream dlq replay` says of how far it is, and of what it has done."""

from collections import Counter

from app.cli.render.dlq import left_out_lines, progress_line, summary
from app.deadletters.replay import ReplayCounts


def test_how_far_a_replay_is_with_its_rate_and_the_time_left() -> None:
    counts = ReplayCounts(read=20_000, replayed=10_000)
    assert progress_line(counts, 60_000, 2.0) == (
        "10,000 put back of 20,000 looked at, 60,000 left, 5,000/s, 6 s to go"
    )
    assert progress_line(counts, 0, 2.0) == "10,000 put back of 20,000 looked at, 0 left, 5,000/s"
    assert progress_line(ReplayCounts(), 7, 0.0) == "0 put back of 0 looked at, 7 left, 0/s"


def test_what_has_been_done() -> None:
    counts = ReplayCounts(
        100, 90, 60, 20, 0, Counter({"the patch does not fit": 10}), {"the patch does not fit": ["3:1 x"]}
    )
    assert summary(counts, 2.0, "mqtt") == "60 put back to mqtt, 20 to quarantine, 10 left out, in 2 s (30/s)"
    assert list(left_out_lines(counts.left_out, counts.examples)) == [
        "10 left out: the patch does not fit",
        "    3:1 x",
    ]
