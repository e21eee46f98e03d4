from dataclasses import dataclass, field

from app.cli.load.progress import PlainProgress, picture
from app.loadtest.progress import LoadPhase, LoadProgress, LoadSample, line, milliseconds

NOW = LoadSample(12.3, 2460, 2450, 2400, 90, 0.0004, 0.0021, 0.04, 0.09)


def progress(phase: LoadPhase = LoadPhase.SENDING, now: LoadSample = NOW, **more: object) -> LoadProgress:
    values = {"sent_a_second": 200.0, "acked_a_second": 199.0, "waiting": 10, "refused": 0, "problem": ""} | more
    return LoadProgress(phase=phase, now=now, devices=90, **values)  # type: ignore[arg-type]


def test_a_line_says_how_it_stands() -> None:
    assert line(progress()) == (
        "sending: 12 s  sent 2,460 (200/s)  acked 2,450  stored 2,400  "
        "PUBACK 0.40/2.1 ms  row 40/90 ms  connected 90/90"
    )
    assert line(progress(refused=3, problem="no way into it")).endswith("refused 3  no way into it")


def test_without_a_database_nothing_is_said_about_rows() -> None:
    assert "stored" not in line(progress(now=LoadSample(1, 1, 1, None, 1, 0, 0, 0, 0)))


def test_times_have_as_many_digits_as_mean_something() -> None:
    assert [milliseconds(one) for one in (0.000_42, 0.004_2, 0.042, 4.2)] == ["0.42", "4.2", "42", "4,200"]


@dataclass
class Lines:
    found: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        self.found.append(text)


def test_without_a_terminal_there_is_a_line_now_and_then_and_for_each_phase() -> None:
    lines = Lines()
    show = PlainProgress(lines)
    for _ in range(5):
        show(progress())
    show(progress(LoadPhase.CHECKING))
    assert [one.split(":")[0] for one in lines.found] == ["sending", "checking rows and alerts"]


def test_a_terminal_gets_a_table() -> None:
    assert len(picture(progress(refused=1)).renderables) == 3
