"""The id of the topic with a name, so that files of a deleted topic are not taken for files of its successor."""

from collections.abc import Awaitable, Callable

from app.core.state.partition_log import NAMELESS
from app.kafka.access import KAFKA_ERRORS, access
from app.kafka.topic_ids import TopicIds
from app.settings import Settings
from app.sinks.port import SinkUnavailable

Identify = Callable[[str], Awaitable[str]]  # name of a topic -> its id


def identities(settings: Settings) -> Identify:
    """The function that asks Kafka for the id of a topic, over a new connection; "-" from a broker without topic ids.

    The function raises SinkUnavailable when Kafka does not answer, or has no such topic.
    """

    async def identify(topic: str) -> str:
        ids = TopicIds(access(settings))
        try:
            found = (await ids.ask([topic])).get(topic)
        except KAFKA_ERRORS as error:
            raise SinkUnavailable(f"Kafka does not say which topic {topic} is now: {error!r}") from error
        finally:
            await ids.close()
        if found is None:
            raise SinkUnavailable(f"Kafka has no topic {topic}")
        return found.identity or NAMELESS

    return identify
