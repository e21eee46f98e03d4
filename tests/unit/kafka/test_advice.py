"""Errors of Kafka that waiting does not cure come with what an operator must do; all other errors with nothing."""

import pytest
from aiokafka import errors

from app.kafka.advice import advice

WAITING_HELPS = [
    errors.KafkaConnectionError, errors.NotLeaderForPartitionError, errors.RequestTimedOutError,
    errors.KafkaTimeoutError, errors.LeaderNotAvailableError, errors.OutOfOrderSequenceNumber,
]  # fmt: skip
AN_OPERATOR_MUST_ACT = {
    errors.UnknownTopicOrPartitionError: "iot-stream topics create",
    errors.TopicAuthorizationFailedError: "ACLs Write and Describe",
    errors.ClusterAuthorizationFailedError: "IdempotentWrite",
    errors.MessageSizeTooLargeError: "max.message.bytes",
    errors.RecordListTooLargeError: "segment.bytes",
    errors.NotEnoughReplicasError: "missing brokers",
    errors.PolicyViolationError: "policy",
    errors.KafkaStorageError: "disk",
    errors.SaslAuthenticationFailed: "password",
}


@pytest.mark.parametrize("error", WAITING_HELPS, ids=lambda error: error.__name__)
def test_waiting_helps(error: type[BaseException]) -> None:
    assert advice("dlq", error()) is None
    assert advice("dlq", OSError()) is None


@pytest.mark.parametrize(("error", "words"), AN_OPERATOR_MUST_ACT.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_an_operator_must_act(error: type[BaseException], words: str) -> None:
    said = advice("the-dlq", error())
    assert said is not None
    assert words in said
    assert "{" not in said
