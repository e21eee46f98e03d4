"""The beginning of tracing in a program: variables and settings in; out, a Tracing, or why there is none."""

import contextlib
import os
from collections.abc import Mapping
from importlib import metadata
from typing import Protocol

from app.errors import SettingsError
from app.runtime.tracing import semconv
from app.runtime.tracing.environment import ExportOptions, read_environment
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling
from app.runtime.tracing.tracing import NO_TRACING, Tracing

INSTALL = "pip install 'iot-stream[tracing]'"
STOP_SECONDS = 2.0  # for the last spans of a program


class TraceSettings(Protocol):
    """What of the settings (app.settings) is asked for."""

    @property
    def app(self) -> str:
        """The fleet's name."""

    @property
    def trace_ratio(self) -> float:
        """Share of the messages without a context, from 0 to 1, unless OTEL_TRACES_SAMPLER says otherwise."""

    @property
    def trace_always_per_second(self) -> int:
        """Spans a second that what goes wrong may have, whatever is sampled."""

    @property
    def trace_aiokafka(self) -> bool:
        """Whether the Kafka client makes spans too."""


def start_tracing(program: str, settings: TraceSettings, environment: Mapping[str, str] = os.environ) -> Tracing:
    """Tracing as the variables OTEL_* want it; without an endpoint among them, a Tracing that costs nothing.

    `program` ("worker", "bridge", ...) is the service `iot-stream-<program>` unless OTEL_SERVICE_NAME says otherwise.
    Call `stop` at the end. Raises SettingsError for a variable that is wrong, and where OpenTelemetry is not installed.
    """
    options = read_environment(environment)
    if options is None:
        return NO_TRACING
    try:
        return _sdk_tracing(program, options, settings)
    except ImportError as error:
        what = f"OpenTelemetry is not installed ({error}): {INSTALL}, or unset the variable"
        raise SettingsError(f"wrong settings:\n  OTEL_EXPORTER_OTLP_ENDPOINT: {what}") from None
    except (ValueError, OSError) as error:
        raise SettingsError(f"wrong settings:\n  OTEL_*: {error}") from None


def _sdk_tracing(program: str, options: ExportOptions, settings: TraceSettings) -> Tracing:
    from app.runtime.tracing.provider import sdk_tracing

    head = HeadSampling(settings.trace_ratio if options.ratio is None else options.ratio, options.parent_based)
    resource = {semconv.SERVICE_NAME: f"iot-stream-{program}", semconv.SERVICE_NAMESPACE: settings.app}
    with contextlib.suppress(metadata.PackageNotFoundError):  # run from its source
        resource[semconv.SERVICE_VERSION] = metadata.version("iot-stream")
    tracing = sdk_tracing(options, head, AlwaysLimit(settings.trace_always_per_second), resource)
    if settings.trace_aiokafka:
        from app.runtime.tracing.aiokafka import instrument_aiokafka

        instrument_aiokafka(tracing)
    return tracing
