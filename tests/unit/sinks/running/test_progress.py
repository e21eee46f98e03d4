"""The offset of a partition that may be committed."""

from hypothesis import given
from hypothesis import strategies as st

from app.sinks.port import Flushed
from app.sinks.running.circuit import SinkCircuit
from app.sinks.running.progress import Progress


def begun(offset: int = 10, committed: int | None = None) -> Progress:
    progress = Progress()
    progress.begin(0, offset, committed)
    return progress


def position(progress: Progress) -> int:
    return progress.partitions[0].position


def test_what_is_left_out_is_done_at_once() -> None:
    progress = begun()
    progress.read(0, 20, [], 0)
    assert progress.to_commit() == {0: 20}
    progress.committed({0: 20})
    assert progress.to_commit() == {}


def test_held_records_and_later_records_are_not_completed() -> None:
    progress = begun(committed=10)
    progress.read(0, 20, [17], 1_000)
    progress.read(0, 30, [], 0)
    assert progress.to_commit() == {}
    progress.flushed(Flushed({0: 15}))
    assert position(progress) == 15
    progress.flushed(Flushed({0: 18}))
    assert position(progress) == 30
    assert progress.oldest is None


def test_the_oldest_is_the_first_held_record() -> None:
    progress = begun()
    progress.read(0, 11, [10], 5_000)
    progress.read(0, 12, [11], 5_100)
    progress.read(0, 13, [12], 9_000)
    assert progress.oldest == 5_000
    progress.flushed(Flushed({0: 12}))
    assert progress.oldest == 9_000


def test_a_partition_that_is_not_ours_is_left_alone() -> None:
    progress = begun()
    progress.flushed(Flushed({7: 5}))
    progress.forget({0})
    assert progress.to_commit() == {}
    assert progress.lag([(0, 5)]) == 0


def test_lag() -> None:
    progress = begun(10)
    assert progress.lag([(0, 15), (1, 99)]) == 5
    assert progress.lag([(0, None)]) == 0


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 3)), max_size=40))
def test_never_past_what_is_not_done(steps: list[tuple[int, bool, int]]) -> None:
    progress, at, given_offsets, done = begun(0), 0, list[int](), 0
    for count, is_given, flushed in steps:
        offsets = [at + count - 1] if is_given else []
        at += count
        given_offsets += offsets
        progress.read(0, at, offsets, at)
        for _ in range(flushed):
            if done < len(given_offsets):
                done += 1
                progress.flushed(Flushed({0: given_offsets[done - 1] + 1}))
        first_open = given_offsets[done] if done < len(given_offsets) else at
        assert position(progress) <= first_open
        assert position(progress) == at or done < len(given_offsets)


def test_removed_offsets_are_those_before_the_start_of_the_log_and_each_is_given_once() -> None:
    progress = Progress()
    progress.begin(0, 100, None, settled=True)
    one = progress.partitions[0]
    assert one.removed(100) == []
    one.found(101)  # after the marker of a transaction
    progress.read(0, 150, [], 0)
    assert one.removed(100) == []
    one.found(400)
    progress.read(0, 500, [], 0)
    one.found(502)  # narrower
    progress.read(0, 600, [], 0)
    assert one.removed(420) == [(150, 400)]
    assert one.removed(700) == [(600, 700)]
    assert one.removed(650) == []
    one.found(900)
    progress.read(0, 910, [], 0)
    assert one.removed(1000) == [(700, 900), (910, 1000)]
    progress.begin(0, 0, None, settled=True)  # another log
    assert progress.partitions[0].removed(5) == [(0, 5)]


def test_a_circuit_opens_and_each_try_then_finds_out() -> None:
    circuit = SinkCircuit(3, 10.0)
    waits = [circuit.failed() for _ in range(2)]
    assert circuit.shown == 0.0
    assert all(0.04 < wait <= 0.2 for wait in waits)
    circuit.failed()
    assert (str(circuit.state), circuit.shown) == ("open", 1.0)
    circuit.trying()
    assert (str(circuit.state), circuit.shown) == ("half_open", 0.5)
    assert 5.0 <= max(circuit.failed() for _ in range(20)) <= 10.0
    circuit.trying()
    circuit.abandoned()
    assert circuit.shown == 1.0
    assert circuit.succeeded()
    assert not circuit.succeeded()
    assert (circuit.failed(7.0), circuit.failed(10**6)) == (7.0, 100.0)
