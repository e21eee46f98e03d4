"""Bytes of senders of the first day are read as they were then.

golden.json has them as they went over the wire. They are never made anew: a change of proto/ that reads them otherwise
is a break.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, symbol_database

from app.protobuf import events_pb2, ingest_pb2, metrics_pb2

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())
MODULES = (events_pb2, ingest_pb2, metrics_pb2)


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_of_the_first_day_are_read_as_they_were(name: str) -> None:
    golden = GOLDEN[name]
    read = symbol_database.Default().GetSymbol(golden["message"]).FromString(bytes.fromhex(golden["hex"]))
    assert json_format.MessageToDict(read, preserving_proto_field_name=True) == golden["read"]
    assert read.SerializeToString(deterministic=True).hex() == golden["hex"]


def test_there_are_bytes_of_every_message_that_says_something() -> None:
    shown = {golden["message"] for golden in GOLDEN.values()}
    inside = {"Event", "Metric", "RejectedItem", "BatchRefusal"}  # in those
    empty = {"FlushRequest", "GetHealthRequest"}
    messages = [message for module in MODULES for message in module.DESCRIPTOR.message_types_by_name.values()]
    assert {one.full_name for one in messages if one.name not in inside | empty} == shown
