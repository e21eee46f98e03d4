"""The outbox behind the port: in, alert events and answers; out, records on `iot-alerts`, acked, in order per device.

The record of an answer names its MQTT topic in a header; the record of an event has no such header.
"""

from collections.abc import Sequence
from itertools import zip_longest

from app.core.batch.output import Forward
from app.core.model.reply import Reply
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer

TOPIC_HEADER = "mqtt_topic"


class KafkaOutbox:
    """Alert events wait in Kafka until the notifier has delivered them."""

    def __init__(self, producer: Producer, topic: str, input_topic: str = "") -> None:
        """`input_topic` is the topic for `forwards`; a caller without forwards may leave it out."""
        self._producer, self._topic, self._input = producer, topic, input_topic

    async def send(
        self,
        events: Sequence[tuple[bytes, bytes]],
        answers: Sequence[Reply] = (),
        forwards: Sequence[Forward] = (),
        headers: Sequence[list[tuple[str, bytes]]] = (),
    ) -> None:
        """Send (key `user/device`, event as JSON), answers and forwards, until Kafka has acked all.

        `headers` has the headers of each event, if there are any. Raises TransientError when interrupted first.
        """
        outgoing = [OutgoingMessage(*event, *more) for event, more in zip_longest(events, zip(headers), fillvalue=())]
        outgoing += [OutgoingMessage(one.key, one.value, [(TOPIC_HEADER, one.topic.encode())]) for one in answers]
        await self._producer.send(self._topic, outgoing)
        await self._producer.send(self._input, [OutgoingMessage(*one) for one in forwards])
