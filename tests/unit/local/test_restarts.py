"""When a process is started again."""

from app.local.restarts import LONGEST_WAIT, STEADY, RestartAction, Restarts


def deaths(restarts: Restarts, count: int, lived: float) -> list[float]:
    """Waits after each of `count` deaths, the process having lived that long every time."""
    waits, now = [], 0.0
    restarts.started_at = now
    for _ in range(count):
        now += lived
        assert restarts.decide(True, now) is RestartAction.NOTHING
        assert restarts.decide(False, now) is RestartAction.REPORT
        waits.append(restarts.wait)
        assert restarts.decide(False, now + restarts.wait - 0.01) is RestartAction.NOTHING
        now += restarts.wait
        assert restarts.decide(False, now) is RestartAction.START
        restarts.started(now)
    return waits


def test_waits_double_up_to_the_longest() -> None:
    assert deaths(Restarts(), 7, lived=1.0) == [1, 2, 4, 8, 16, LONGEST_WAIT, LONGEST_WAIT]


def test_a_long_life_makes_the_wait_short_again() -> None:
    restarts = Restarts()
    deaths(restarts, 4, lived=1.0)
    assert deaths(restarts, 2, lived=STEADY) == [1, 1]
    assert restarts.count == 6


def test_a_start_that_fails_at_once_waits_longer() -> None:
    restarts = Restarts()
    restarts.decide(False, 0.0)
    restarts.failed(1.0)
    assert restarts.wait == 2
    assert restarts.decide(False, 2.9) is RestartAction.NOTHING
    assert restarts.decide(False, 3.0) is RestartAction.START


def test_retry_now_ends_the_wait_of_a_dead_one_only() -> None:
    dead, alive = Restarts(), Restarts()
    dead.decide(False, 5.0)
    for restarts in (dead, alive):
        restarts.retry_now(5.1)
    assert dead.decide(False, 5.1) is RestartAction.START
    assert alive.decide(True, 5.1) is RestartAction.NOTHING


def test_a_process_that_was_stopped_on_purpose_is_started_at_once_and_reports_no_death() -> None:
    restarts = Restarts()
    restarts.held()
    assert restarts.decide(False, 5.0) is RestartAction.START
    restarts.started(5.0)
    assert (restarts.failures, restarts.decide(True, 6.0)) == (0, RestartAction.NOTHING)
