"""Structured logs, of libraries too: one JSON object a line for machines, coloured lines for a terminal."""

import logging
import sys

import structlog

from app.settings import Settings


class _LibrariesOnlyWarn(logging.Filter):
    """Libraries narrate normal work; what goes wrong there still shows."""

    def filter(self, record: logging.LogRecord) -> bool:
        return isinstance(record.msg, dict) or record.levelno >= logging.WARNING  # structlog's message is a dict


def configure(settings: Settings) -> None:
    """Set up structlog and logging once, at the start of a process."""
    human = settings.log_format == "human" or (
        settings.log_format == "auto" and (sys.__stderr__ is not None and sys.__stderr__.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
