"""Claims of silence on their way into the input topic, each into the partition of its device."""

import asyncio
from collections.abc import Sequence

from app.core.model.inactivity_claim import HEADERS, InactivityClaim, to_record
from app.errors import TransientError
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer

# A late claim may come before the records that devices could not send while Kafka was away: better not to claim then.
SEND_SECONDS = 2.0


class KafkaInactivityClaims:
    """Sends claims, and fails soon: a device that is still silent is claimed again."""

    def __init__(self, producer: Producer, topic: str) -> None:
        """`producer` is closed when Kafka does not answer: nobody else may wait for this producer."""
        self._producer, self._topic = producer, topic

    async def send(self, claims: Sequence[tuple[int, InactivityClaim]]) -> bool:
        """Send (partition, claim); whether Kafka has acked all of them."""
        messages = [OutgoingMessage(*to_record(claim), HEADERS, partition) for partition, claim in claims]
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._producer.send(self._topic, messages)
        except (TimeoutError, TransientError):
            return False
        return True
