"""Which topic a name means now, so that files of one that was deleted are not taken for those of the one made anew."""

from collections.abc import Awaitable, Callable

from app.core.state.partition_log import NAMELESS
from app.kafka.access import KAFKA_ERRORS, access
from app.kafka.topic_ids import TopicIds
from app.settings import Settings
from app.sinks.port import SinkUnavailable

Identify = Callable[[str], Awaitable[str]]  # name of a topic -> its id


def identities(settings: Settings) -> Identify:
    """Asks Kafka, on a connection that lasts as long as the question; the id is "-" of a broker that gives none.

    Raises SinkUnavailable when Kafka does not answer, or has no such topic.
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
