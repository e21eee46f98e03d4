"""Records that Kafka has lost: removed offsets, and reset logs, in; log events and metrics out."""

from collections.abc import Mapping

import structlog

from app.sinks import sink_metrics as metrics

log = structlog.get_logger()


def report_begun_anew(sink: str, causes: Mapping[int, str]) -> None:
    """Report partitions that are read from their start, {partition: why}."""
    for cause in sorted(set(causes.values())):
        numbers = sorted(number for number, one in causes.items() if one == cause)
        metrics.LOGS_ANEW.labels(sink).inc(len(numbers))
        log.error(
            "sink_topic_made_anew",
            sink=sink,
            partitions=numbers,
            cause=cause,
            next="read from the start: the destination gets repeats, or leaves them out if it can detect them",
            cure="what Kafka lost before it was read is gone: have it sent again; keep Kafka from losing more "
            "(unclean.leader.election.enable=false, min.insync.replicas)",
        )


def report_missed(sink: str, partition: int, expected: int, found: int) -> None:
    """Report records that retention has removed, from the offset `expected` up to the offset `found`, exclusive."""
    metrics.MISSED.labels(sink).inc(found - expected)
    log.error(
        "sink_records_missing",
        sink=sink,
        partition=partition,
        expected=expected,
        found=found,
        cure="raise retention.ms of the topic above the longest outage of a destination",
    )
