"""The standard variables: what switches tracing on and off, which sampler they mean, and what is refused by name."""

import pytest

from app.errors import SettingsError
from app.runtime.tracing.environment import GRPC, HTTP, ExportOptions, read_environment

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_off(environment: dict[str, str]) -> None:
    assert read_environment(environment) is None


def test_on() -> None:
    assert read_environment(ENDPOINT) == ExportOptions(GRPC)
    traces = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://[::1]/v1/traces"}
    assert read_environment({**traces, "OTEL_SDK_DISABLED": "false"}) == ExportOptions(GRPC)


@pytest.mark.parametrize(
    ("more", "protocol"),
    [
        ({}, GRPC),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, HTTP),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, HTTP),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, GRPC),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, GRPC),
    ],
)
def test_protocols(more: dict[str, str], protocol: str) -> None:
    options = read_environment({**ENDPOINT, **more})
    assert options is not None
    assert options.protocol == protocol


@pytest.mark.parametrize(
    ("sampler", "arg", "ratio", "parent_based"),
    [
        ("always_on", "", 1.0, False),
        ("always_off", "", 0.0, False),
        ("traceidratio", "0.25", 0.25, False),
        ("traceidratio", "", 1.0, False),
        ("parentbased_always_on", "", 1.0, True),
        ("parentbased_always_off", "", 0.0, True),
        ("parentbased_traceidratio", "0.01", 0.01, True),
    ],
)
def test_samplers(sampler: str, arg: str, ratio: float, parent_based: bool) -> None:
    found = read_environment({**ENDPOINT, "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": arg})
    assert found == ExportOptions(GRPC, ratio, parent_based)


def test_the_queue() -> None:
    sizes = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5", "OTEL_BSP_SCHEDULE_DELAY": "250"}
    assert read_environment({**ENDPOINT, **sizes}) == ExportOptions(GRPC, queue=10, batch=5, delay=0.25)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http:///path"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:port"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "00"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_SCHEDULE_DELAY", "²"),
    ],
)
def test_what_is_wrong_is_named_and_its_value_is_not(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as raised:
        read_environment({**ENDPOINT, name: value})
    assert value not in str(raised.value)


@pytest.mark.parametrize("arg", ["2", "-0.1", "nan", "much"])
def test_a_ratio_is_from_0_to_1(arg: str) -> None:
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER_ARG"):
        read_environment({**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": arg})
