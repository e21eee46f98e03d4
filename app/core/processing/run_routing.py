"""Records that follow one another -> where each belongs, and when it came in."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from app.core.model.arrival import AHEAD_MS, EARLIEST_MS, INGEST, arrival
from app.core.model.headers import KIND, TOPIC
from app.core.model.records import Kind, Record, Rejected
from app.core.routing.address import BARE, NO_CONTEXT_BEHIND, Address, address_in_order, address_of

Times = dict[tuple[str, bytes], int]
TIMES = 10_000  # headers that are kept, beside those of one batch: 2 MB

_TELEMETRY = Kind.TELEMETRY  # a global is quicker to look up than a member


class RoutedRun(NamedTuple):
    """For each record the address of telemetry, or None, and when it came in, milliseconds since 1970; what the
    addresses of the records with None are, in their order.
    """

    addresses: Sequence[Address | None]
    arrivals: Sequence[int]
    control: Iterator[Address | Rejected]


class RunRouter:
    """Routes runs of records. Keeps what the last records' headers say: records that came in together, of all
    partitions, have the same header.
    """

    def __init__(self) -> None:
        self._times: Times = {}
        self._clock = 0

    def begin(self, clock: int) -> None:
        """A batch begins at `clock`, milliseconds since 1970."""
        if len(self._times) > TIMES or clock < self._clock:
            self._times = {}
        self._clock = clock

    def route(self, records: Sequence[Record], annotated: list[Any]) -> RoutedRun:
        """Route the records. A record with more than what a gateway always gives is added to `annotated`."""
        times, clock, latest = self._times, self._clock, self._clock + AHEAD_MS
        addresses, arrivals, control = list[Address | None](), list[int](), list[Address | Rejected]()
        for record in records:
            headers = record.headers
            address: Address | Rejected
            if not headers:
                address, at = BARE, record.timestamp
                if not EARLIEST_MS <= at <= latest:
                    at = clock
            elif len(headers) > 2 and headers[0][0] == TOPIC and headers[1][0] == KIND and headers[2][0] == INGEST:
                address = address_in_order(record, headers, annotated)
                at = times.get(headers[2]) or arrival(record, clock, times)
            else:
                address, at = address_of(record), arrival(record, clock, times)
                if headers[-1][0] not in NO_CONTEXT_BEHIND:
                    annotated.append(record)
            if type(address) is Address and address.kind is _TELEMETRY:
                addresses.append(address)
            else:
                addresses.append(None)
                control.append(address)
            arrivals.append(at)
        return RoutedRun(addresses, arrivals, iter(control))
