from app.protobuf import events_pb2 as _events_pb2
from app.protobuf import metrics_pb2 as _metrics_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
