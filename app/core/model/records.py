"""The nouns of the path: what a record is, what decoding makes of it, and what a batch asks of the world.

Hot types are msgspec Structs (a frozen dataclass costs eight times as much to build); `gc=False` because none
of them can be part of a reference cycle.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, final

from msgspec import Struct


class Kind(StrEnum):
    """What a record on `iot-stream` is about; the `kind` header."""

    TELEMETRY = "telemetry"
    STATUS = "status"
    CONFIG = "config"
    ALERTS_MANAGE = "alerts_manage"
    SILENCE = "silence"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a record can never be stored: dead-letter field, header and metric label. Closed: add, never rename."""

    EMPTY_PAYLOAD = "empty_payload"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    BAD_ENCODING = "bad_encoding"  # not UTF-8
    BAD_JSON = "bad_json"  # syntax, NaN, Infinity
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"
    NUL_CHARACTER = "nul_character"
    LONE_SURROGATE = "lone_surrogate"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"  # "90" or 90.5 for an integer, true for a number
    OUT_OF_RANGE = "out_of_range"  # sequence_id beyond int64, a column's value beyond its type
    BAD_TIME = "bad_time"
    TIME_IN_FUTURE = "time_in_future"
    TIME_TOO_OLD = "time_too_old"
    BAD_ID = "bad_id"  # control characters and noncharacters, which MQTT 5 (1.5.4) advises against
    KEY_TOO_LONG = "key_too_long"  # the primary key would not fit a btree page
    IDENTITY_MISMATCH = "identity_mismatch"
    UNKNOWN_TOPIC = "unknown_topic"
    UNSUPPORTED_KIND = "unsupported_kind"
    INVALID_RULES = "invalid_rules"
    INVALID_COMMAND = "invalid_command"
    REFUSED_BY_DATABASE = "refused_by_database"
    RATE_LIMITED = "rate_limited"  # over an ingress limit: the message never was on the input topic
    SINK_REFUSED = "sink_refused"  # a destination beside the database never takes it: the worker has stored it


class Stage(StrEnum):
    """Where on the path a record was rejected."""

    ROUTE = "route"
    DECODE = "decode"
    VALIDATE = "validate"
    STORE = "store"
    SINK = "sink"  # followed by `:` and the sink's name


class Record(Protocol):
    """One Kafka record; aiokafka's ConsumerRecord fits. Times are milliseconds since 1970."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@final
class Rejected(Struct, frozen=True, gc=False):
    """A record that can never be stored. `record` is the original, byte for byte."""

    record: Any  # Record; Any because msgspec does not take Protocols as field types
    reason: Reason
    stage: Stage | str  # a Stage; of a sink see `sink_stage`
    detail: str  # one line for a human; names the field and what would be right


def sink_stage(sink: str) -> str:
    """The stage of what the destination of this sink refuses."""
    return f"{Stage.SINK}:{sink}"


# A row of raw_telemetry: time (aware UTC), user_id, device_id, sequence_id, the schema's own columns, extra_data (JSON
# text).
Row = tuple[Any, ...]


class Reading(Struct, frozen=True, gc=False):
    """One validated telemetry message, `time` in UTC. The readings of a schema (schema.py) have its columns as well.

    `extra` maps each other field to its exact JSON bytes (msgspec.Raw), for rules; `extra_json` has the same fields as
    one JSON text, for the row: decoding has to make this text anyway for its checks, so nobody makes it twice.
    """

    time: datetime
    user_id: str
    device_id: str
    sequence_id: int
    extra: dict[str, Any]
    extra_json: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # a column
