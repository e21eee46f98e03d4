"""How a client sends: how much at once, how long it waits, and when it stops trying."""

from msgspec import Struct


class Pace(Struct, frozen=True):
    """Times are seconds, sizes bytes. The error that a client raises at last holds what is not acknowledged."""

    batch_items: int = 500  # of one message; a gateway takes IOT_GATEWAY_BATCH_MAX_ITEMS
    batch_bytes: int = 1 << 20  # of one message; a gateway takes IOT_GATEWAY_BODY_MAX_BYTES
    in_flight: int = 16  # batches of a stream that are sent and not acknowledged, or acknowledged and not looked at
    linger: float = 0.2  # an item of a stream waits for so long for other items to go with it
    answer: float = 120.0  # a call without an answer for so long is repeated
    first_pause: float = 0.1  # after a failure; doubled after each further failure, with a jitter
    longest_pause: float = 10.0
    give_up: float | None = None  # after so long without any ack; None: never
