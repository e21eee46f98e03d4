"""What a verification found, for a person: the ledger in; lines of text out."""

from collections.abc import Iterator

from app.core.model.fault import printable
from app.history.verification.ledger import VerifyLedger

SHOWN = 200  # characters of an example


def verify_lines(found: VerifyLedger) -> Iterator[str]:
    """The ledger, line by line: what there is, then what is wrong, with examples."""
    yield f"{found.verdict.value}: {found.topic} against {found.table}{_whose(found)}"
    yield ""
    yield from _counts(found)
    for name, one in (("missing", found.missing), ("doubtful", found.doubtful)):
        for example in one.examples:
            place = f"{found.topic}-{example.partition}@{example.offset}"
            yield f"  {name}: {place}: no {example.wanted}: {example.what}"
        yield from _more(one.count - len(one.examples), name)
    if found.extra:
        for row in found.extra.examples:
            name = f"{printable(row.user_id, SHOWN)}/{printable(row.device_id, SHOWN)}"
            yield f"  extra: {name}, sequence_id {row.sequence_id} of {row.time}"
        yield from _more(found.extra.count - len(found.extra.examples), "extra")


def verify_notes(found: VerifyLedger) -> Iterator[str]:
    """What to do next, and what was not looked at."""
    if not found.records and not found.interrupted:
        yield "there are no records in this range"
    if found.missing.count:
        places = " ".join(f"--offset {partition}:{at}" for partition, at in sorted(found.first_missing.items()))
        yield f"to have the workers read them again, where rows were not deleted: iot-stream history reset {places}"
    if found.doubtful.count:
        yield "doubtful: the change of value that is set now would keep them; it may have been set otherwise then"
    if found.letters_gone:
        yield "not known: their dead letters, if any, were older than what the dead-letter topic still has"
    if found.waiting:
        yield f"{found.waiting:,} records were not looked at, as the group {found.group} has not committed them yet"
    if found.extra is None and not found.interrupted:
        yield "no rows were looked at for extra ones"
    if found.interrupted and (left := found.left()):
        yield f"interrupted; to go on: {' '.join(f'--offset {place}' for place in left)}"


def verify_progress(found: VerifyLedger, whole: int, seconds: float) -> str:
    """How far it is, on one line."""
    done = sum(at - found.begin[partition] for partition, at in found.at.items())
    rate = done / seconds if seconds else 0.0
    left = f", {(whole - done) / rate:,.0f} s left" if rate and whole > done else ""
    wrong = f", missing {found.missing.count:,}" if found.missing.count else ""
    return f"{done:,} of {whole:,} records, {rate:,.0f}/s{left}{wrong}"


def _whose(found: VerifyLedger) -> str:
    return "" if found.user is None else f", user {printable(found.user)}"


def _counts(found: VerifyLedger) -> Iterator[str]:
    repeats = f"{found.repeats:,} of them repeat an earlier record" if found.repeats else ""
    yield _line("records", found.records, f"{found.not_asked:,} of other users" if found.user is not None else "")
    yield _line("rows", found.rows, repeats)
    yield _line("dead letters", found.dead)
    for policy, count in sorted(found.dropped.items()):
        yield _line(f"left out: {policy}", count)
    for name, count, more in (
        ("carried out", found.carried_out, "settings, statuses, commands"),
        ("redelivered", found.redelivered, "their row has the time of the first delivery"),
        ("expired", found.expired, "older than the retention of the table"),
        ("not known", found.letters_gone, "dead letters that Kafka may have removed"),
        ("doubtful", found.doubtful.count, ""),
    ):
        if count:
            yield _line(name, count, more)
    yield _line("missing", found.missing.count)
    if found.extra is not None:
        yield _line("extra rows", found.extra.count, f"of times since {found.extra_since}")


def _line(name: str, count: int, more: str = "") -> str:
    return f"{name:<18} {count:>12,}  {more}".rstrip()


def _more(count: int, name: str) -> Iterator[str]:
    if count > 0:
        yield f"  and {count:,} more {name}"
