"""Lines of one account -> records for Kafka, and what is said of each line that is refused.

A line is one JSON object that names its device (telemetry_record.items), or, by setting, a line of the Influx line
protocol (influx_lines). A blank line says nothing and counts as a line, so that it keeps a quiet connection open.
"""

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from app.core.decode.influx_line import PRECISIONS, LineFault
from app.core.model.records import Reason
from app.gateways.admission import Limited
from app.gateways.blocks.record_block import RecordBlock
from app.gateways.dead_letter import refused_items
from app.gateways.gateway_metrics import REJECTED
from app.gateways.influx_lines import InfluxReader
from app.gateways.intake import Intake
from app.gateways.payloads.influx_heads import InfluxNames
from app.gateways.payloads.plain_lines import records_of
from app.gateways.record import IngestRecord
from app.gateways.tcp.answers import refused
from app.gateways.tcp.login import read_login
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account
from app.settings import Settings

GATEWAY = b"tcp"
LOGIN_AGAIN = "login_again"
NO_LINE_END = Rejection(Reason.BAD_JSON.value, "the last line has no line feed, so that it may be a part of a line")
_AGAIN = Rejection(LOGIN_AGAIN, "this connection has its account: connect again to log in as another")

Found = IngestRecord | Rejection | LineFault | None
Reader = Callable[[Account, Sequence[bytes], Arrival], Sequence[Found]]


class TakenLines(Struct, gc=False):
    """What became of some lines."""

    records: Sequence[IngestRecord]
    numbers: Sequence[int]  # of their lines, one each
    refusals: list[bytes]  # as they are answered, in order
    dead: list[IngestRecord]  # dead letters of lines that are refused, where they are to be kept
    user: str = ""  # of the account that sends them


class LineTaker:
    """Makes records of the lines of one gateway."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._intake, self._keep_refused = intake, settings.gateway_dead_letter_rejected
        self._topic = settings.kafka_topic
        self._max_bytes = min(settings.payload_max_bytes, settings.tcp_line_max_bytes)
        self._line_max_bytes = settings.tcp_line_max_bytes
        self._read: Reader = json_lines if settings.tcp_format == "json" else influx_lines(settings)

    def take(self, account: Account, lines: Sequence[bytes], first: int) -> TakenLines:
        """Make records of lines, at least one, and refusals; `first` is the number of the first of them.
        Never raises.
        """
        arrival = Arrival(GATEWAY, time.time_ns() // 1_000_000, None, self._max_bytes)
        found = self._read(account, lines, arrival)
        records = found if type(found) is RecordBlock else [one for one in found if type(one) is IngestRecord]
        if len(records) == len(lines) and not self._intake.has_limits:
            return TakenLines(records, range(first, first + len(lines)), [], [], account.user_id)
        return self._sort(account, lines, found, first)

    def _sort(self, account: Account, lines: Sequence[bytes], found: Sequence[Found], first: int) -> TakenLines:
        """As `take`, where not all lines are good."""
        records, numbers = list[IngestRecord](), list[int]()
        taken = TakenLines(records, numbers, [], [], account.user_id)
        for number, line, one in zip(range(first, first + len(lines)), lines, found, strict=True):
            if isinstance(one, IngestRecord):
                limit = self._intake.over_limit(account, one.headers[0][1], len(one.value), waits=True)
                if limit is None:
                    records.append(one)
                    numbers.append(number)
                else:
                    self._refuse_for_now(taken, number, limit)
            elif one is not None and not (line.isspace() or line == b""):
                self._refuse(taken, account, number, line, Rejection(one.reason, one.error))
        return taken

    def _refuse_for_now(self, taken: TakenLines, number: int, limit: Limited) -> None:
        REJECTED.labels("tcp", Reason.RATE_LIMITED.value).inc()
        rejection = Rejection(Reason.RATE_LIMITED.value, limit.detail)
        taken.refusals.append(refused(number, rejection, limit.retry_after))

    def _refuse(self, taken: TakenLines, account: Account, number: int, line: bytes, rejection: Rejection) -> None:
        if read_login(line) is not None:
            rejection = _AGAIN  # and no dead letter: there is a secret in it
        elif len(line) > self._line_max_bytes:
            error = f"the line has more than {self._line_max_bytes} bytes"
            rejection = Rejection(Reason.PAYLOAD_TOO_LARGE.value, error)
        elif self._keep_refused:
            ms = time.time_ns() // 1_000_000
            taken.dead += refused_items([(line, rejection)], account.user_id, GATEWAY, ms, self._topic)
        REJECTED.labels("tcp", rejection.reason).inc()
        taken.refusals.append(refused(number, rejection))


def json_lines(account: Account, lines: Sequence[bytes], arrival: Arrival) -> Sequence[Found]:
    """The records of lines, at least one, that are one JSON object each; or why they are refused."""
    if lines[0][-1:] == b"\r":
        lines = [line.removesuffix(b"\r") for line in lines]
    return records_of(account, lines, arrival)


def influx_lines(settings: Settings) -> Reader:
    """A reader of lines in the Influx line protocol; a line ends at its line feed, also within a quoted text."""
    names = InfluxNames(settings.gateway_influx_user_tag, settings.gateway_influx_device_tag)
    precision, longest = PRECISIONS[settings.tcp_influx_precision], settings.tcp_line_max_bytes

    def read(account: Account, lines: Sequence[bytes], arrival: Arrival) -> Sequence[Found]:
        reader = InfluxReader(precision, names, account, arrival)
        found = reader.read(lines)
        if max(map(len, lines)) <= longest:
            return found
        return [one if len(line) <= longest else _TOO_LONG for line, one in zip(lines, found, strict=True)]

    return read


_TOO_LONG = Rejection(Reason.PAYLOAD_TOO_LARGE.value, "too long a line")
