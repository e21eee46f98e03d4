"""The standard variables OTEL_* -> where to spans are exported and which are sampled; nothing of the SDK is needed.

What the exporters read themselves (headers, compression, timeout, certificates) is not looked at here.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from app.errors import SettingsError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SAMPLER, SAMPLER_ARG = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
GRPC, HTTP = "grpc", "http/protobuf"
HTTP_PORT = 4318  # what OTLP over HTTP has by default

_SAMPLERS = ("always_on", "always_off", "traceidratio")
_PARENT_BASED = "parentbased_"


class ExportOptions(NamedTuple):
    """How spans are exported, and which."""

    protocol: str  # GRPC or HTTP
    ratio: float | None = None  # of what has no context; None: the program's own setting
    parent_based: bool = True
    queue: int = 2048  # spans that wait at most; this and the next two are the defaults of OpenTelemetry's variables
    batch: int = 512  # spans of an export at most
    delay: float = 1.0  # seconds until a batch that is not full is sent


def read_environment(environment: Mapping[str, str] = os.environ) -> ExportOptions | None:
    """How spans are to be exported; None: they are not wanted, as no endpoint is named or a variable switches them off.

    Raises SettingsError that names the variable and what would be right.
    """
    endpoint = _first(environment, ENDPOINTS)
    if not endpoint or _of(environment, "OTEL_SDK_DISABLED").lower() == "true":
        return None
    exporter = _of(environment, "OTEL_TRACES_EXPORTER").lower()
    if exporter == "none":
        return None
    if exporter not in ("", "otlp"):
        raise _wrong("OTEL_TRACES_EXPORTER", "must be otlp or none")
    ratio, parent_based = _sampler(environment)
    return ExportOptions(
        protocol=_protocol(environment, _port(endpoint)),
        ratio=ratio,
        parent_based=parent_based,
        queue=_count(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048),
        batch=_count(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        delay=_count(environment, "OTEL_BSP_SCHEDULE_DELAY", 1000) / 1000,
    )


def _port(endpoint: str) -> int | None:
    """Without a scheme the exporter for gRPC would encrypt, and the one for HTTP refuse each export."""
    wrong = _wrong(" or ".join(reversed(ENDPOINTS)), "must be a URL such as http://127.0.0.1:4317")
    try:
        url = urlsplit(endpoint)
        port = url.port
    except ValueError:
        raise wrong from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise wrong
    return port


def _protocol(environment: Mapping[str, str], port: int | None) -> str:
    found = _first(environment, PROTOCOLS)
    if not found:
        return HTTP if port == HTTP_PORT else GRPC
    if found not in (GRPC, HTTP):
        raise _wrong(PROTOCOLS[1], f"must be {GRPC} or {HTTP}")
    return found


def _sampler(environment: Mapping[str, str]) -> tuple[float | None, bool]:
    """The ratio of what has no context, and whether a context decides for itself."""
    full = _of(environment, SAMPLER).lower()
    if not full:
        return None, True
    name = full.removeprefix(_PARENT_BASED)
    if name not in _SAMPLERS:
        raise _wrong(SAMPLER, f"must be {', '.join(_SAMPLERS)}, or one of them after {_PARENT_BASED}")
    if name == "traceidratio":
        try:
            ratio = float(_of(environment, SAMPLER_ARG) or 1)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise _wrong(SAMPLER_ARG, "must be a number from 0 to 1")
    else:
        ratio = float(name == "always_on")
    return ratio, full != name


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    text = _of(environment, name) or str(default)
    if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise _wrong(name, "must be a whole number above 0")
    return int(text)


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((found for name in names if (found := _of(environment, name))), "")


def _of(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip()


def _wrong(name: str, what: str) -> SettingsError:
    return SettingsError(f"wrong settings:\n  {name}: {what}")
