"""What an operator must do about an error of Kafka: in, topic and error; out, a sentence, or None to just wait."""

from aiokafka import errors

# The first class of an error that fits counts. {topic} is the topic that does not take the write.
_CURES: tuple[tuple[type[BaseException], str], ...] = (
    (errors.UnknownTopicOrPartitionError, "if the brokers are up, make the topic: iot-stream topics create"),
    (errors.InvalidTopicError, "the name {topic} is no topic name Kafka takes: change the setting"),
    (
        errors.TopicAuthorizationFailedError,
        "this account may not write to {topic}: give it the ACLs Write and Describe there",
    ),
    (errors.ClusterAuthorizationFailedError, "give this account the ACL IdempotentWrite on the cluster"),
    (
        errors.MessageSizeTooLargeError,
        "a message is larger than {topic} takes: raise max.message.bytes of the topic (a dead letter is 4/3 of its "
        "payload and 1 kB more), and the broker's replica.fetch.max.bytes",
    ),
    (
        errors.RecordListTooLargeError,
        "a batch is larger than a segment of {topic}: raise segment.bytes of the topic",
    ),
    (errors.NotEnoughReplicasError, "too few replicas of {topic} are in sync: bring the missing brokers back"),
    (errors.NotEnoughReplicasAfterAppendError, "too few replicas of {topic} are in sync: bring the brokers back"),
    (errors.PolicyViolationError, "a policy of the brokers forbids the write to {topic}: ask who runs them"),
    (errors.KafkaStorageError, "a broker cannot write to its disk: make room, or replace the disk"),
    (errors.SaslAuthenticationFailed, "the brokers refuse this account: mend its name or password"),
    (errors.AuthenticationFailedError, "the brokers refuse this account: mend its name or password"),
)


def advice(topic: str, error: BaseException | None) -> str | None:
    """The sentence for `error` of a write to `topic`; None when waiting is all there is to do."""
    cure = next((words for kind, words in _CURES if isinstance(error, kind)), None)
    return cure.format(topic=topic) if cure else None
