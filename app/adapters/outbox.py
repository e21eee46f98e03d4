"""The outbox behind the port: in, alert events; out, records on `iot-alerts`, acked, in order per device."""

from collections.abc import Sequence

from app.adapters.outgoing import Outgoing
from app.adapters.producer import Producer


class KafkaOutbox:
    """Alert events wait in Kafka until the notifier has delivered them."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def send(self, events: Sequence[tuple[bytes, bytes]]) -> None:
        """Send (key `user/device`, event as JSON), until Kafka has acked all. Raises TransientError on give-up."""
        await self._producer.send(self._topic, [Outgoing(key, value) for key, value in events])
