"""Records that follow one another -> where each belongs, and when it came in."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from app.core.model.arrival import AHEAD_MS, EARLIEST_MS, INGEST, MS_DIGITS, arrived_ms
from app.core.model.headers import KIND, TOPIC
from app.core.model.keys import CACHED_LENGTH, CACHED_TOPICS
from app.core.model.records import Kind, Record, Rejected
from app.core.routing import address as routing
from app.core.routing.address import BARE, NO_CONTEXT_BEHIND, WAYS, Address, Headers

_TELEMETRY = Kind.TELEMETRY  # a global is quicker to look up than a member


class RoutedRun(NamedTuple):
    """For each record the address of telemetry, or None, and when it came in, milliseconds since 1970; what the
    addresses of the records with None are, in their order.
    """

    addresses: Sequence[Address | None]
    arrivals: Sequence[int]
    control: Iterator[Address | Rejected]


class RunRouter:
    """Routes runs of records. Keeps the addresses of topics, as far as there is room."""

    def __init__(self) -> None:
        self._topics: dict[bytes | None, Address] = {}
        self._clock = 0

    def begin(self, clock: int) -> None:
        """A batch begins at `clock`, milliseconds since 1970."""
        self._clock = clock

    def route(self, records: Sequence[Record], annotated: list[Any]) -> RoutedRun:
        """Route the records. A record with more than what a gateway always gives is added to `annotated`."""
        topics, clock, latest = self._topics, self._clock, self._clock + AHEAD_MS
        addresses, arrivals, control = list[Address | None](), list[int](), list[Address | Rejected]()
        for record in records:
            headers = record.headers
            address: Address | Rejected
            if not headers:
                address, at = BARE, record.timestamp
                if not EARLIEST_MS <= at <= latest:
                    at = clock
            elif len(headers) > 2 and headers[0][0] == TOPIC and headers[1][0] == KIND and headers[2][0] == INGEST:
                plain = len(headers) == 3 or (len(headers) == 4 and headers[3][0] in WAYS)
                known = topics.get(headers[0][1]) if plain else None
                address = known or self._in_order(record, headers, annotated, plain)
                said, at = headers[2][1], -1
                if said is not None and said.isdigit() and len(said) < MS_DIGITS:
                    at = int(said)
                if not EARLIEST_MS <= at <= latest:
                    at = arrived_ms(record, clock)
            else:
                address, at = routing.address_of(record), arrived_ms(record, clock)
                if headers[-1][0] not in NO_CONTEXT_BEHIND:
                    annotated.append(record)
            if type(address) is Address and address.kind is _TELEMETRY:
                addresses.append(address)
            else:
                addresses.append(None)
                control.append(address)
            arrivals.append(at)
        return RoutedRun(addresses, arrivals, iter(control))

    def _in_order(self, record: Record, headers: Headers, annotated: list[Any], plain: bool) -> Address | Rejected:
        """The address of a record of a topic that is not kept, or with headers of its own."""
        address, topic = routing.address_in_order(record, headers, annotated), headers[0][1]
        if plain and type(address) is Address and topic is not None and len(topic) <= CACHED_LENGTH:
            if len(self._topics) >= CACHED_TOPICS:
                self._topics.clear()
            self._topics[topic] = address
        return address
