"""What aiokafka's producer asks of a batch that was given to `send_batch`: no more than RecordBatch has."""

import ast
import inspect

from aiokafka.producer import message_accumulator

from app.kafka.encoding.record_batch import RecordBatch

ASKED = {"append", "closed", "record_count", "_set_producer_state", "_build", "close"}
NEVER = {"append", "close"}  # of messages that come one by one, and of transactions


def test_the_producer_asks_a_batch_for_what_it_has() -> None:
    tree = ast.parse(inspect.getsource(message_accumulator))
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "_builder"
    }
    batch = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "BatchBuilder")
    within = {
        node.attr
        for node in ast.walk(batch)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "_builder"
    }
    assert asked - within | {"append"} <= ASKED
    assert all(hasattr(RecordBatch, name) for name in ASKED - NEVER)
