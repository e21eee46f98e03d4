"""Settings of tracing, beside the standard variables OTEL_* that switch it on."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.settings.values import NonNegativeInt, WebUrl


class TracingSettings(BaseModel, frozen=True):
    """What of all that passes gets spans: [tracing.md](tracing.md)."""

    trace_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.001,
        description="share of the messages without a trace context that are traced, [tracing.md](tracing.md); "
        "OTEL_TRACES_SAMPLER goes before this setting",
    )
    trace_incoming_per_second: NonNegativeInt = Field(
        1000,
        description="messages a second that are traced because they say they are sampled, of one account half of them; "
        "the rest go on as not sampled",
    )
    trace_always_per_second: NonNegativeInt = Field(
        100, description="dead letters, errors and refused rows that get a span a second, whatever is sampled"
    )
    trace_aiokafka: bool = Field(
        False, description="spans of the Kafka client too, for records sent and taken one by one"
    )
    tempo_url: WebUrl = Field(
        None,
        description="Tempo, which `iot-stream trace` asks for spans, as http://tempo:3200, "
        "[inspect.md](inspect.md#spans); never logged",
    )
