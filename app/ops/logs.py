"""Structured logs, of libraries too: one JSON object a line for machines, coloured lines for a terminal."""

import logging
import sys
import time
from collections.abc import Callable

import structlog

from app.runtime.last_error import LAST_ERROR
from app.runtime.tracing.tracing import CURRENT
from app.settings import Settings

MOST_TEXTS = 1000


class _LibrariesOnlyWarn(logging.Filter):
    """Libraries narrate normal work; what goes wrong there still shows."""

    def filter(self, record: logging.LogRecord) -> bool:
        return isinstance(record.msg, dict) or record.levelno >= logging.WARNING  # structlog's message is a dict


class OncePerInterval(logging.Filter):
    """A filter: of a library's lines with the same text before its values are put in, one passes an interval; the rest
    are counted.

    While Kafka is away its client alone writes thirty lines a second.
    """

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` is the interval; `clock` returns seconds and never goes back."""
        super().__init__()
        self._seconds, self._clock = seconds, clock
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}  # when, and how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the line; notes in it how many like it were left out."""
        if isinstance(record.msg, dict) or record.exc_info:  # ours, or a crash
            return True
        key, now = (record.name, str(record.msg)), self._clock()
        at, left_out = self._logged.get(key, (-self._seconds, 0))
        if now - at < self._seconds:
            self._logged[key] = (at, left_out + 1)
            return False
        if len(self._logged) > MOST_TEXTS:  # somebody puts values into the text itself
            self._logged.clear()
        self._logged[key] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", ()
        return True


def add_span(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor of structlog: a line written within a recorded span gets its `trace_id` and `span_id`, 32 and 16 hex
    digits, as Tempo and Loki write them.
    """
    if (span := CURRENT.get()) is not None and span.context is not None:
        event["trace_id"], event["span_id"] = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
    return event


def configure(settings: Settings) -> None:
    """Set up structlog and logging, of libraries too, once at the start of a process: lines go to standard error.

    `log_format` auto is for a person on a terminal, else JSON. Below WARNING libraries log at log level DEBUG alone,
    and above it each text once in ten seconds. Replaces all handlers of the root logger.
    """
    human = settings.log_format == "human" or (
        settings.log_format == "auto" and (sys.__stderr__ is not None and sys.__stderr__.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_span,
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]  # no locals: secrets
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, LAST_ERROR, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.__stderr__)  # Faust replaces sys.stderr by a proxy into logging
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    if settings.log_level != "DEBUG":
        handler.addFilter(_LibrariesOnlyWarn())
        handler.addFilter(OncePerInterval())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
