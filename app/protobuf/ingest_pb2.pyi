from app.protobuf import events_pb2 as _events_pb2
from app.protobuf import metrics_pb2 as _metrics_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PushMetricsRequest(_message.Message):
    __slots__ = ("batch", "force_flush")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FORCE_FLUSH_FIELD_NUMBER: _ClassVar[int]
    batch: _metrics_pb2.MetricBatch
    force_flush: bool
    def __init__(self, batch: _Optional[_Union[_metrics_pb2.MetricBatch, _Mapping]] = ..., force_flush: _Optional[bool] = ...) -> None: ...

class PushEventsRequest(_message.Message):
    __slots__ = ("batch", "force_flush")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FORCE_FLUSH_FIELD_NUMBER: _ClassVar[int]
    batch: _events_pb2.EventBatch
    force_flush: bool
    def __init__(self, batch: _Optional[_Union[_events_pb2.EventBatch, _Mapping]] = ..., force_flush: _Optional[bool] = ...) -> None: ...

class FlushRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FlushResponse(_message.Message):
    __slots__ = ("flushed",)
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    flushed: int
    def __init__(self, flushed: _Optional[int] = ...) -> None: ...

class GetHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetHealthResponse(_message.Message):
    __slots__ = ("status", "queue_depth", "last_flush_time_us", "last_flush_records", "average_flush_seconds", "kafka_connected", "mqtt_connected", "last_error", "last_error_time_us", "version", "uptime_seconds")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[GetHealthResponse.Status]
        STATUS_SERVING: _ClassVar[GetHealthResponse.Status]
        STATUS_NOT_SERVING: _ClassVar[GetHealthResponse.Status]
    STATUS_UNSPECIFIED: GetHealthResponse.Status
    STATUS_SERVING: GetHealthResponse.Status
    STATUS_NOT_SERVING: GetHealthResponse.Status
    STATUS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    LAST_FLUSH_TIME_US_FIELD_NUMBER: _ClassVar[int]
    LAST_FLUSH_RECORDS_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FLUSH_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KAFKA_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    MQTT_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_TIME_US_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    status: GetHealthResponse.Status
    queue_depth: int
    last_flush_time_us: int
    last_flush_records: int
    average_flush_seconds: float
    kafka_connected: bool
    mqtt_connected: bool
    last_error: str
    last_error_time_us: int
    version: str
    uptime_seconds: float
    def __init__(self, status: _Optional[_Union[GetHealthResponse.Status, str]] = ..., queue_depth: _Optional[int] = ..., last_flush_time_us: _Optional[int] = ..., last_flush_records: _Optional[int] = ..., average_flush_seconds: _Optional[float] = ..., kafka_connected: _Optional[bool] = ..., mqtt_connected: _Optional[bool] = ..., last_error: _Optional[str] = ..., last_error_time_us: _Optional[int] = ..., version: _Optional[str] = ..., uptime_seconds: _Optional[float] = ...) -> None: ...
