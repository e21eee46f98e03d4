"""Spans of the Kafka client itself, for what goes through `send` and `getone` of aiokafka: mostly a user's own code.

The bridge and the worker hand whole batches to the client and take whole fetches from the client, past both; the spans
of both are made by hand. `getmany` is left alone: a span for each record of a fetch would cost more than the record.
"""

from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from app.runtime.tracing.provider import SdkTracing
from app.runtime.tracing.tracing import Tracing


def instrument_aiokafka(tracing: Tracing) -> None:
    """Wrap aiokafka in this process, once; nothing is done for a `tracing` that makes no spans. Its spans are sampled
    as their parents are, else by the ratio. Raises ImportError where opentelemetry-instrumentation-aiokafka is missing.
    """
    import aiokafka
    from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
    from opentelemetry.instrumentation.utils import unwrap

    if isinstance(tracing, SdkTracing):
        provider = tracing.provider(ParentBased(TraceIdRatioBased(tracing.head.ratio)))
        AIOKafkaInstrumentor().instrument(tracer_provider=provider)
        unwrap(aiokafka.AIOKafkaConsumer, "getmany")
