"""What is checked in of app/protobuf is what `make proto` makes of proto/, and keeps what was published."""

import importlib.util
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from app.protobuf import events_pb2, ingest_pb2, metrics_pb2, receiver_pb2
from tools.protobuf import __main__ as make_proto
from tools.protobuf.contract import broken
from tools.protobuf.generate import CODE, CONTRACT, compiled

needs_protoc = pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed"
)


@pytest.fixture(scope="module")
def published() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(CONTRACT.read_bytes())


@needs_protoc
def test_what_is_checked_in_is_what_is_generated(published: FileDescriptorSet) -> None:
    code, contract = compiled()
    there = {path.name: path.read_text() for path in CODE.glob("*.py*") if path.is_file()}
    assert there == code, "run `make proto`"
    assert published == contract, "run `make proto`"


def test_the_modules_speak_the_published_contract(published: FileDescriptorSet) -> None:
    """Also where protoc is not installed: the descriptors within the generated code are those of contract.binpb."""
    spoken = FileDescriptorSet()
    for module in (events_pb2, metrics_pb2, ingest_pb2, receiver_pb2):
        module.DESCRIPTOR.CopyToProto(spoken.file.add())
    assert broken(published, spoken) == broken(spoken, published) == []


def test_every_package_has_a_version(published: FileDescriptorSet) -> None:
    assert [file.package.rpartition(".")[2] for file in published.file] == ["v1"] * 4


def test_what_is_published_is_kept(published: FileDescriptorSet) -> None:
    assert broken(published, published) == []


def test_new_fields_and_messages_break_nothing(published: FileDescriptorSet) -> None:
    newer = _copy(published)
    _message(newer, "Metric").field.add(name="unit", number=7, type=FieldDescriptorProto.TYPE_STRING)
    newer.file[1].message_type.add(name="Other")
    assert broken(published, newer) == []


def test_what_breaks_the_contract_is_named(published: FileDescriptorSet) -> None:
    newer = _copy(published)
    metric, event, ack = (_message(newer, name) for name in ("Metric", "Event", "BatchAck"))
    metric.field[2].type = FieldDescriptorProto.TYPE_FLOAT  # value
    metric.field[4].proto3_optional = False  # sequence_id
    event.field[5].name = "charge"
    del event.field[6]  # extra_json
    ack.field[1].number = 9  # accepted
    (service, *_) = (one for file in newer.file for one in file.service)
    service.method[1].client_streaming = True
    del service.method[5]
    health = _message(newer, "GetHealthResponse")
    health.enum_type[0].value[1].number = 7
    assert [line.partition(":")[0] for line in broken(published, newer)] == [
        "iot_stream.events.v1.Event.battery = 6",
        "iot_stream.events.v1.Event.extra_json = 7",
        "iot_stream.ingest.v1.GetHealthResponse.Status.STATUS_SERVING = 1",
        "iot_stream.ingest.v1.Ingest.Flush",
        "iot_stream.ingest.v1.Ingest.PushMetrics",
        "iot_stream.metrics.v1.BatchAck.accepted = 2",
        "iot_stream.metrics.v1.Metric.sequence_id = 5",
        "iot_stream.metrics.v1.Metric.value = 3",
    ]


def test_a_number_of_a_field_that_is_gone_is_never_used_again(published: FileDescriptorSet) -> None:
    without = _copy(published)
    event = _message(without, "Event")
    del event.field[6]
    event.reserved_range.add(start=7, end=8)
    event.reserved_name.append("extra_json")
    assert broken(published, without) == [], "a field may go when its number and name are reserved"
    again = _copy(without)
    _message(again, "Event").ClearField("reserved_range")
    _message(again, "Event").field.add(name="unit", number=7, type=FieldDescriptorProto.TYPE_BYTES)
    assert broken(without, again) == [
        "iot_stream.events.v1.Event: 7 is of a field that is gone, and no longer reserved"
    ]
    _message(again, "Event").ClearField("reserved_name")
    assert len(broken(without, again)) == 2


@needs_protoc
def test_make_proto_refuses_to_break_it_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], published: FileDescriptorSet
) -> None:
    older = _copy(published)
    _message(older, "Metric").field.add(name="unit", number=7, type=FieldDescriptorProto.TYPE_STRING)
    contract = tmp_path / "contract.binpb"
    contract.write_bytes(older.SerializeToString())
    monkeypatch.setattr(make_proto, "CONTRACT", contract)
    monkeypatch.setattr(make_proto, "CODE", tmp_path / "code")
    assert make_proto.main() == 1
    assert "iot_stream.metrics.v1.Metric.unit = 7: the field is gone" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["contract.binpb"]


def _copy(files: FileDescriptorSet) -> FileDescriptorSet:
    copied = FileDescriptorSet()
    copied.CopyFrom(files)
    return copied


def _message(files: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(message for file in files.file for message in file.message_type if message.name == name)
