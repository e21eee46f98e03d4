"""How large a schedule is, and with which settings its workers run; drawn from its seed."""

import random
from dataclasses import dataclass, replace
from functools import lru_cache

from app.core.processing.device_cache import IN_MEMORY
from app.settings import Settings
from tests.simulation.script import SET_BACK_AFTER

OFFLINE_AFTER = 3.0  # seconds without a record
UNSPLIT = 8 << 20  # bytes of alerts that no batch here has
CLOCKS_LENGTH = 12  # enough for some readings of one device in a row


@dataclass(frozen=True)
class Shape:
    """Of a schedule."""

    partitions: int = 2
    length: int = 9
    workers: int = 2
    batch_rows: int = 3
    copy_min_rows: int = 500
    direct_min_rows: int = 0  # from so many rows on COPY may go straight into the table; 0: never
    late_after: float | None = None
    probe: float = 0.0
    alerts_max_bytes: int = UNSPLIT  # with so many bytes of alerts a batch ends
    shuffled: bool = True
    edits: bool = False
    in_memory: int = IN_MEMORY
    sampled: bool = False
    watched: bool = False
    clocks: bool = False
    produce_records: int = 1 << 30  # in one batch of a producer: as a large send is several of them
    world: str = ""  # anew: the input topic is made anew; changelog: that of states is; poison: somebody writes to it


def draw_shape(seed: str) -> Shape:
    """A shape for a seed."""
    chosen = random.Random(f"{seed} shape")
    shape = Shape(
        partitions=chosen.choice((1, 2, 2)),
        length=chosen.choice((3, 3, 4, 4, 5, 6, 6, 12)),
        workers=chosen.choice((1, 2, 2)),
        batch_rows=chosen.choice((1, 2, 3, 4)),
        copy_min_rows=chosen.choice((500, 500, 3)),
        late_after=chosen.choice((None, None, 3598.0)),
        probe=chosen.choice((0.0, 0.0, 1.0)),
        shuffled=chosen.random() < 0.5,
        edits=chosen.random() < 0.1,
        in_memory=chosen.choice((IN_MEMORY, 1, 2)),
    )
    produce = random.Random(f"{seed} produce").choice((1 << 30, 1 << 30, 1 << 30, 2, 1))
    direct = random.Random(f"{seed} COPY").choice((0, 1, 1, 2))
    alerts = random.Random(f"{seed} split").choice((UNSPLIT, 1, 1, 2500))  # 1: each alert ends a batch
    shape = replace(shape, produce_records=produce, direct_min_rows=direct, alerts_max_bytes=alerts)
    if shape.edits:  # then nobody can say beforehand what rules a reading meets
        return shape
    shape = replace(shape, sampled=chosen.random() < 0.3, watched=chosen.random() < 0.15)
    if not shape.sampled and not shape.watched and chosen.random() < 0.3:
        return replace(shape, clocks=True, length=CLOCKS_LENGTH)
    return shape if shape.watched else _of_a_world(shape, random.Random(f"{seed} world").random())


def _of_a_world(shape: Shape, drawn: float) -> Shape:
    """Where offsets begin anew averages count readings again; with the changelog its only copy is a worker's disk."""
    if drawn < 0.13:
        return replace(shape, world="anew", sampled=False)
    if drawn < 0.26:
        # More puts of states would more often meet what seed 10919 shows (OPEN in test_simulation.py).
        return replace(shape, world="changelog", workers=1, alerts_max_bytes=UNSPLIT)
    return replace(shape, world="poison") if drawn < 0.39 else shape


def settings(shape: Shape) -> Settings:
    """The settings of the workers. How few records a poll brings is no setting: waiting batches are joined as ever."""
    return _settings(
        shape.partitions, shape.copy_min_rows, shape.direct_min_rows, shape.late_after, shape.probe, shape.in_memory,
        shape.sampled, shape.watched, shape.alerts_max_bytes,
    )  # fmt: skip


@lru_cache(maxsize=512)
def _settings(
    partitions: int,
    copy_min_rows: int,
    direct_min_rows: int,
    late_after: float | None,
    probe: float,
    in_memory: int,
    sampled: bool,
    watched: bool,
    alerts_max_bytes: int,
) -> Settings:
    values = {
        "kafka_partitions": partitions,
        "copy_min_rows": copy_min_rows,
        "direct_copy_min_rows": direct_min_rows,
        "late_after": late_after,
        "breaker_probe": probe,
        "batch_alerts_max_bytes": alerts_max_bytes,
        "devices_in_memory": in_memory,
        "clock_back_readings": 0 if sampled else SET_BACK_AFTER,
        "offline_after": OFFLINE_AFTER if watched else 0.0,
    }
    return _same_in_all().model_copy(update=values)  # which looks into no environment, in 0.02 ms and not in 30


@lru_cache(maxsize=1)
def _same_in_all() -> Settings:
    return Settings(
        _env_file=None,
        late_batch_rows=2,
        offline_grace=2.0,
        offline_mass_share=1.0,
        # So low that any one user would reach it, if it counted for more than its share: no worker may end by it.
        dead_letters_in_a_row=2,
        dead_letters_ratio=0.05,
        dead_letters_window=40,
        dead_letters_user_share=0.5,
    )
