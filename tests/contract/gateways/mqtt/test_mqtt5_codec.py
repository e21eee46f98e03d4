"""What the bridge leans on in its libraries beyond their documented interface; fails when an upgrade changes it."""

import asyncio
import inspect
import subprocess
import sys

import mqtt5
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RequestTimedOutError
from aiokafka.producer import message_accumulator, sender

from app.gateways.writer import BATCH_BYTES


def test_aiokafka_has_the_private_parts_a_quick_close_needs() -> None:
    source = inspect.getsource(AIOKafkaProducer.__init__)
    assert "self._sender = " in source
    assert "self.client = " in source
    assert "self._closed = " in source
    assert asyncio.iscoroutinefunction(sender.Sender.close)


def test_a_timed_out_batch_is_sent_again_under_its_own_sequence_number() -> None:
    """The idempotent producer's promise that an outage neither drops nor reorders; a size error is never retried."""
    source = inspect.getsource(sender.SendProduceReqHandler._can_retry)
    assert "self._sender._txn_manager is None and batch.expired()" in source
    assert RequestTimedOutError.retriable
    assert not MessageSizeTooLargeError.retriable
    assert issubclass(RequestTimedOutError, KafkaError)


def test_a_batch_takes_its_first_record_whatever_its_size() -> None:
    batch = message_accumulator.BatchBuilder(BATCH_BYTES, 0)
    assert batch.append(timestamp=1, key=b"k", value=b"x" * 2 * BATCH_BYTES, headers=[]) is not None
    assert batch.append(timestamp=1, key=b"k", value=b"x", headers=[]) is None
    assert batch.record_count() == 1


def test_the_codec_names_its_errors_as_the_reader_expects() -> None:
    with pytest.raises(IndexError):
        mqtt5.read(memoryview(b"\x20"))
    with pytest.raises(ValueError, match="PacketType"):
        mqtt5.read(memoryview(b"\x00\x00"))
    assert mqtt5.ConnAckReasonCode.SUCCESS.value == 0


def test_the_codec_panics_on_text_that_is_not_utf8() -> None:
    """Why PUBLISH is read by packets.py; when this fails the codec may do it again. Apart, as it is untidy."""
    program = r"import mqtt5; mqtt5.read(memoryview(b'\x30\x06\x00\x03t\xffp\x00'))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "PanicException" in ended.stderr
