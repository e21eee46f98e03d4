from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Metric(_message.Message):
    __slots__ = ("node_id", "sensor_id", "value", "time_us", "sequence_id", "extra_json")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SENSOR_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    sensor_id: str
    value: float
    time_us: int
    sequence_id: int
    extra_json: bytes
    def __init__(self, node_id: _Optional[str] = ..., sensor_id: _Optional[str] = ..., value: _Optional[float] = ..., time_us: _Optional[int] = ..., sequence_id: _Optional[int] = ..., extra_json: _Optional[bytes] = ...) -> None: ...

class MetricBatch(_message.Message):
    __slots__ = ("batch_id", "metrics")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    def __init__(self, batch_id: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ...) -> None: ...

class BatchAck(_message.Message):
    __slots__ = ("batch_id", "accepted", "rejected", "refusal")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    accepted: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedItem]
    refusal: BatchRefusal
    def __init__(self, batch_id: _Optional[int] = ..., accepted: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedItem, _Mapping]]] = ..., refusal: _Optional[_Union[BatchRefusal, _Mapping]] = ...) -> None: ...

class RejectedItem(_message.Message):
    __slots__ = ("index", "reason", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: str
    error: str
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class BatchRefusal(_message.Message):
    __slots__ = ("reason", "error", "retry_after_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    error: str
    retry_after_ms: int
    def __init__(self, reason: _Optional[str] = ..., error: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...
