"""Looks every second whether topics are still the topics that were taken over, and agree in their partition counts."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiokafka.errors import KafkaError

from app.errors import TransientError
from app.kafka.topic_ids import TopicIdentity
from app.kafka.topics import disagreement
from app.postgres.operator_advice import Advice
from app.stream.log_book import Ids, LogBook
from app.stream.transport import BatchConsumer
from app.tables.device_table import FaustStates

PART = "topics"  # of the program, for the advice
LOOK_SECONDS = 1.0  # what is read of a topic that was made anew before that is noticed is read once more


class LogWatch:
    """Finds names that mean other topics now. LogWatch decides nothing: a rebalance looks up what log there is
    (app.stream.log_book).
    """

    def __init__(
        self, ids: Ids, logs: LogBook, states: FaustStates, advice: Advice, written: Sequence[str] = ()
    ) -> None:
        """`written` are the topics that are only written to, which have as many partitions as the others."""
        self._ids, self._logs, self._states, self._advice = ids, logs, states, advice
        self._names = [logs.topic, *written, states.changelog]
        self.partitions = 0  # that the topics have; 0: not seen yet

    @property
    def agree(self) -> bool:
        """Whether all topics have as many partitions, as far as is known."""
        return PART not in self._advice.now

    async def watch(self, consumer: BatchConsumer) -> None:
        """Look every LOOK_SECONDS while records flow, until cancelled. An outage of Kafka is passed over."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not consumer.flow_active or consumer.app.rebalancing:
                continue
            try:
                topics = await self._ids.ask(self._names)
            except (KafkaError, OSError):  # an outage is reported by the part that waits for its end
                continue
            if consumer.flow_active and not consumer.app.rebalancing and await self._all_agree(consumer, topics):
                await self._look_at_input(consumer, topics.get(self._logs.topic))
                await self._look_at_states(consumer, topics.get(self._states.changelog))

    async def _all_agree(self, consumer: BatchConsumer, topics: Mapping[str, TopicIdentity]) -> bool:
        """Whether they do; while not, nobody has a partition (app.stream.rebalance.assignor)."""
        cure = disagreement({name: len(topics[name].elections) for name in self._names if name in topics})
        was, consumer.app.assignor.hold = consumer.app.assignor.hold, cure is not None
        if cure is not None:
            self._advice.call(PART, cure)
            if consumer.flight.expected or not was:
                await consumer.seek_back.doubt("the topics differ in their partition counts")
        elif was or not self.agree:
            self._advice.settled(PART)
            await consumer.seek_back.doubt("the topics agree in their partition counts again")
        if cure is None and self._logs.topic in topics:
            self.partitions = len(topics[self._logs.topic].elections)
        return cure is None and not was

    async def _look_at_input(self, consumer: BatchConsumer, topic: TopicIdentity | None) -> None:
        if not consumer.flight.expected:  # the consumer has no partition
            return
        if topic is None:  # the topic's records may be gone, and others come at their offsets
            await consumer.seek_back.doubt(f"{self._logs.topic} does not exist any more", rejoin=False)
        elif topic.identity != self._logs.identity or consumer.seek_back.in_doubt:
            await consumer.seek_back.doubt(f"{self._logs.topic} has another id")

    async def _look_at_states(self, consumer: BatchConsumer, topic: TopicIdentity | None) -> None:
        """A new changelog gets the states there are, from the workers that own their partitions."""
        states, epoch = self._states, consumer.flight.epoch
        if topic is None or not consumer.flow_active:  # writes to the topic are held, and say so
            return
        if topic.identity != states.identity:
            states.begun_anew |= {tp.partition for tp in consumer.flight.expected}
            states.identity = topic.identity
        for partition in sorted(states.begun_anew & {tp.partition for tp in consumer.flight.expected}):
            with suppress(TransientError):  # a rebalance or the end: the partition's next owner looks for itself
                await states.move(partition, topic.identity, lambda: consumer.flight.epoch == epoch)
