"""How a run stands: counts of the moment, and one sample a second for the plots of the report. Pure."""

from enum import Enum

from msgspec import Struct

from app.loadtest.latencies import Latencies


class LoadPhase(Enum):
    """What a run is doing."""

    PREPARING = "making users"
    RULES = "waiting for workers to take the rules"
    CONNECTING = "connecting"
    SENDING = "sending"
    DRAINING = "waiting for PUBACKs"
    STORING = "waiting for rows"
    CHECKING = "checking rows and alerts"
    CLEANING = "removing users"


class LoadSample(Struct, frozen=True):
    """A run at one moment; counts are since its start, times those of the last second, in seconds."""

    at: float  # seconds since the start of the run
    sent: int
    acked: int
    stored: int | None  # None: nobody looks
    connected: int
    ack_p50: float
    ack_p99: float
    row_p50: float
    row_p99: float


class LoadProgress(Struct, frozen=True):
    """What a person is shown."""

    phase: LoadPhase
    now: LoadSample
    devices: int
    sent_a_second: float
    acked_a_second: float
    waiting: int  # due and not acknowledged
    refused: int
    problem: str  # the last failure of a connection or of the database; empty: none


def sample(at: float, counts: tuple[int, int, int | None, int], acks: Latencies, rows: Latencies) -> LoadSample:
    """`counts`: sent, acked, stored, connected; the latencies are those of the last second."""
    times = (acks.percentile(50), acks.percentile(99), rows.percentile(50), rows.percentile(99))
    return LoadSample(at, *counts, *times)


def line(progress: LoadProgress) -> str:
    """The progress as one line of text."""
    now = progress.now
    parts = [
        f"{progress.phase.value}: {max(now.at, 0.0):,.0f} s",
        f"sent {now.sent:,} ({progress.sent_a_second:,.0f}/s)",
    ]
    parts.append(f"acked {now.acked:,}")
    if now.stored is not None:
        parts.append(f"stored {now.stored:,}")
    parts.append(f"PUBACK {milliseconds(now.ack_p50)}/{milliseconds(now.ack_p99)} ms")
    if now.row_p99:
        parts.append(f"row {milliseconds(now.row_p50)}/{milliseconds(now.row_p99)} ms")
    parts.append(f"connected {now.connected:,}/{progress.devices:,}")
    if progress.refused:
        parts.append(f"refused {progress.refused:,}")
    return "  ".join(parts) + (f"  {progress.problem}" if progress.problem else "")


def milliseconds(seconds: float) -> str:
    """A time for a column: 0.42, 4.2, 42, 4,200."""
    found = 1000 * seconds
    return f"{found:.2f}" if found < 1 else f"{found:.1f}" if found < 10 else f"{found:,.0f}"
