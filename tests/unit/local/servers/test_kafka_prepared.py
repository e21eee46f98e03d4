"""What makes Kafka's starts cheap is made once, made anew for other jars, and never missed when it cannot be made."""

import threading
from pathlib import Path

import pytest

from app.errors import TransientError
from app.local.servers.kafka_prepared import Prepared, prepared


class Maker:
    """Stands for the broker that is started to make it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.times, self.error = 0, error

    def __call__(self, made: Prepared) -> None:
        self.times += 1
        made.classes.write_bytes(b"half")
        if self.error:
            raise self.error
        made.first_records.write_bytes(b"records")


@pytest.fixture
def java(tmp_path: Path) -> str:
    """A program and jars to make it for."""
    (tmp_path / "libs" / "jars").mkdir(parents=True)
    (tmp_path / "libs" / "jars" / "kafka.jar").write_bytes(b"jar")
    (tmp_path / "java").write_bytes(b"java")
    return str(tmp_path / "java")


def test_it_is_made_once_however_many_start(java: str, tmp_path: Path) -> None:
    jars, maker, found = tmp_path / "libs" / "jars", Maker(), []
    starts = [threading.Thread(target=lambda: found.append(prepared(java, jars, "", maker))) for _ in range(8)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert maker.times == 1
    made = found[0]
    assert made
    assert found == [made] * 8
    assert made.jvm == [f"-XX:SharedArchiveFile={made.classes}"]
    assert made.first_records.read_bytes() == b"records"


def test_other_jars_settings_and_javas_get_their_own(java: str, tmp_path: Path) -> None:
    jars, maker = tmp_path / "libs" / "jars", Maker()
    found = [prepared(java, jars, "", maker), prepared(java, jars, "other", maker)]
    (jars / "kafka.jar").write_bytes(b"newer")
    found.append(prepared(java, jars, "", maker))
    Path(java).write_bytes(b"newer")
    found.append(prepared(java, jars, "", maker))
    assert maker.times == 4
    assert len({made.directory for made in found if made}) == 4


def test_what_fails_is_not_used_and_not_tried_at_every_start(java: str, tmp_path: Path) -> None:
    jars, maker = tmp_path / "libs" / "jars", Maker(TransientError("it did not start"))
    for _ in range(2):
        made = prepared(java, jars, "", maker)
        assert made
        assert made.jvm == []
        assert not made.first_records.exists()
    assert maker.times == 1


def test_nowhere_to_keep_it(java: str, tmp_path: Path) -> None:
    jars, maker = tmp_path / "libs" / "jars", Maker(OSError(28, "No space left on device"))
    assert prepared(java, jars, "", maker) is None
