"""Looks every second whether the input topic and the state changelog are still the ones that were taken over."""

import asyncio
from contextlib import suppress

from aiokafka.errors import KafkaError

from app.adapters.log_book import Ids, LogBook
from app.adapters.states import FaustStates
from app.adapters.topic_ids import Topic
from app.adapters.transport import BatchConsumer
from app.errors import TransientError

LOOK_SECONDS = 1.0  # what is read of a topic that was made anew before that is noticed is read once more


class LogWatch:
    """Decides nothing: a rebalance looks up what log there is (app.adapters.log_book)."""

    def __init__(self, ids: Ids, logs: LogBook, states: FaustStates) -> None:
        self._ids, self._logs, self._states = ids, logs, states

    async def watch(self, consumer: BatchConsumer) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not consumer.flow_active or consumer.app.rebalancing:
                continue
            try:
                topics = await self._ids.ask([self._logs.topic, self._states.changelog])
            except (KafkaError, OSError):  # an outage is told by whoever waits for it
                continue
            if consumer.flow_active and not consumer.app.rebalancing:
                await self._look_at_input(consumer, topics.get(self._logs.topic))
                await self._look_at_states(consumer, topics.get(self._states.changelog))

    async def _look_at_input(self, consumer: BatchConsumer, topic: Topic | None) -> None:
        if topic is None:  # its records may be gone, and others come at their offsets
            await consumer.doubt(f"{self._logs.topic} does not exist any more", rejoin=False)
        elif topic.identity != self._logs.identity or consumer.in_doubt:
            await consumer.doubt(f"{self._logs.topic} has another id")

    async def _look_at_states(self, consumer: BatchConsumer, topic: Topic | None) -> None:
        """A new changelog gets the states there are, from who owns their partitions."""
        states, epoch = self._states, consumer.flight.epoch
        if topic is None or not consumer.flow_active:  # writes to it are held, and say so
            return
        if topic.identity != states.identity:
            states.begun_anew |= {tp.partition for tp in consumer.flight.expected}
            states.identity = topic.identity
        for partition in sorted(states.begun_anew & {tp.partition for tp in consumer.flight.expected}):
            with suppress(TransientError):  # a rebalance or the end: whoever has the partition next looks for itself
                await states.move(partition, topic.identity, lambda: consumer.flight.epoch == epoch)
