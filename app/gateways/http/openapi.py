"""The document of OpenAPI 3.1 at /openapi.json: the types of answers and of the schema's columns in, JSON out."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, defstruct

from app.core.schema.column_types import Column
from app.core.schema.schema import Schema
from app.gateways.http.events import NDJSON, PROTOBUF
from app.gateways.http.problem import JSON, PROBLEM_JSON, ProblemAnswer, WriteAnswer
from app.runtime.version import VERSION

Json = dict[str, Any]

_INT64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
# A level of an MQTT topic: no level separator, no wildcard, nothing that a terminal would act on.
_ID = Annotated[
    str, Meta(min_length=1, max_length=1000, pattern=r"^[^/+#\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]+$")
]
_AWARE = Annotated[datetime, Meta(tz=True)]

_ABOUT = """Telemetry in, as over MQTT. A 2xx says that Kafka has every item that the answer calls accepted; after any \
other answer send the request again, or mend the request: a repeated reading is one row.

Bodies may be compressed: `Content-Encoding: gzip` or `zstd`. A `traceparent` is carried on. Where waiting helps \
(429, 503), `Retry-After` says how long."""
_WRITES: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "No item was accepted; or the body is malformed.",
    HTTPStatus.UNAUTHORIZED: "There are no credentials, or wrong ones.",
    HTTPStatus.FORBIDDEN: "The account may not send this.",
    HTTPStatus.REQUEST_TIMEOUT: "The body took too long.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body, as sent or inflated, is too large, or has too many items.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The content type, or the encoding, is not taken.",
    HTTPStatus.TOO_MANY_REQUESTS: "The account or the device is over a limit.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Kafka is away, or there is no room: send the request again.",
}
_EXAMPLE = {"sequence_id": 1, "timestamp": "2026-11-21T02:00:00Z", "temperature": 21.5}


class InfluxError(Struct):
    """An error of InfluxDB 2."""

    code: str
    message: str


class InfluxErrorV1(Struct):
    """An error of InfluxDB 1."""

    error: str


class Checks(Struct):
    """What is checked, and whether it is well."""

    status: str
    checks: dict[str, bool]


def document(schema: Schema) -> bytes:
    """The document of OpenAPI, as JSON, of a gateway whose readings have the columns of `schema`."""
    types = (WriteAnswer, ProblemAnswer, InfluxError, InfluxErrorV1, Checks, *_events(schema.columns))
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for name in ("DeviceTelemetry", "DeviceEvent"):
        components[name]["anyOf"] = [{"required": ["timestamp"]}, {"required": ["time"]}]
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "iot-stream HTTP gateway", "version": VERSION, "description": _ABOUT},
            "paths": {**_telemetry_paths(), **_influx_paths(), **_pages()},
            "components": {"schemas": components, "securitySchemes": _SCHEMES},
        }
    )


def _events(columns: Sequence[Column]) -> tuple[type[Struct], ...]:
    """What an item may be, by whose it is. Other fields are kept as they are."""
    times: list[Any] = [("timestamp", _AWARE | float | None, None), ("time", _AWARE | float | None, None)]
    values: list[Any] = [
        (name, _typed(column) if column.required else _typed(column) | None, *(() if column.required else (None,)))
        for column in columns
        for name in column.fields[:1]
    ]
    need: list[Any] = [("sequence_id", _INT64)]
    free: list[Any] = [("sequence_id", _INT64 | None, None)]
    user: list[Any] = [("user_id", _ID), ("device_id", _ID)]
    node: list[Any] = [("node_id", _ID), ("sensor_id", _ID)]
    fields = {
        "DeviceTelemetry": [*need, *times, *values],
        "SensorTelemetry": [*free, *times],
        "DeviceEvent": [*user, *need, *times, *values],
        "SensorEvent": [*node, *free, *times],
    }
    return tuple(defstruct(name, each, kw_only=True) for name, each in fields.items())


def _typed(column: Column) -> Any:
    return column.type.typed or float | str


def _telemetry_paths() -> Json:
    events = {
        JSON: {"schema": {"type": "array", "items": {"anyOf": [_ref("DeviceEvent"), _ref("SensorEvent")]}}},
        NDJSON[0]: {"schema": {"type": "string", "description": "One event a line."}},
        PROTOBUF[0]: {"schema": {"type": "string", "format": "binary", "description": "EventBatch of events.proto."}},
    }
    return {
        "/v1/users/{user}/devices/{device}/telemetry": {
            "parameters": [_in_path("user"), _in_path("device")],
            "post": _write("One message of a device", "deviceTelemetry", {JSON: _of("DeviceTelemetry", _EXAMPLE)}),
        },
        "/v1/nodes/{node}/sensors/{sensor}/telemetry": {
            "parameters": [_in_path("node"), _in_path("sensor")],
            "post": _write("One message of a sensor", "sensorTelemetry", {JSON: _of("SensorTelemetry", {"value": 3})}),
        },
        "/v1/events": {"post": _write("A batch of messages", "events", events)},
    }


def _influx_paths() -> Json:
    unit = {"name": "precision", "in": "query", "description": "Unit of the times; ns."}
    lines = {"text/plain": {"schema": {"type": "string", "examples": ["room,device_id=d1 temperature=21.5"]}}}
    versions = {
        "/api/v2/write": ("writeV2", "InfluxError", ["ns", "us", "ms", "s"]),
        "/write": ("writeV1", "InfluxErrorV1", ["n", "u", "ms", "s", "m", "h"]),
    }
    return {
        path: {
            "post": {
                "operationId": name,
                "summary": "Influx line protocol",
                "parameters": [{**unit, "schema": {"type": "string", "enum": units}}],
                "requestBody": {"required": True, "content": lines},
                "security": [*_SECURITY, {"influxToken": []}],
                "responses": {
                    "204": {"description": "Kafka has every line."},
                    **{_key(status): _json(text, error) for status, text in _WRITES.items()},
                },
            }
        }
        for path, (name, error, units) in versions.items()
    }


def _pages() -> Json:
    text: Json = {
        "description": "In the format of Prometheus.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    any_json: Json = {"description": "JSON.", "content": {JSON: {"schema": {"type": "object"}}}}
    local_only = {"403": _problem("The page is for the gateway's own machine.")}
    checks, not_ready = _json("It is well.", "Checks"), {"503": _json("It is not.", "Checks")}
    pages = {
        "/live": ("live", "Whether the process runs", {"200": checks, **not_ready}),
        "/ready": ("ready", "Whether to send work here", {"200": checks, **not_ready}),
        "/health": ("health", "How it does", {"200": any_json, **local_only}),
        "/metrics": ("metrics", "Metrics of this process", {"200": text, **local_only}),
        "/openapi.json": ("openapi", "This document", {"200": any_json}),
        "/ping": ("ping", "Whether the gateway is there, for clients of InfluxDB", {"204": {"description": "Yes."}}),
    }
    return {
        path: {"get": {"operationId": name, "summary": summary, "security": [], "responses": responses}}
        for path, (name, summary, responses) in pages.items()
    }


def _write(summary: str, name: str, content: Json) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "security": _SECURITY,
        "responses": {
            "200": _json("Kafka has the accepted items; the others are named.", "WriteAnswer"),
            **{_key(status): _problem(text) for status, text in _WRITES.items()},
        },
    }


def _key(status: HTTPStatus) -> str:
    return str(status.value)


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _of(name: str, example: Json) -> Json:
    return {"schema": _ref(name), "example": example}


def _json(description: str, name: str) -> Json:
    return {"description": description, "content": {JSON: {"schema": _ref(name)}}}


def _problem(description: str) -> Json:
    return {"description": description, "content": {PROBLEM_JSON: {"schema": _ref("ProblemAnswer")}}}


def _in_path(name: str) -> Json:
    (schema,), _ = msgspec.json.schema_components([_ID])
    return {"name": name, "in": "path", "required": True, "schema": schema}


_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `iot-stream users token`."},
    "basic": {"type": "http", "scheme": "basic", "description": "User and password of `iot-stream users`."},
    "influxToken": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Token TOKEN."},
    "certificate": {"type": "mutualTLS", "description": "The common name is the user."},
}
_SECURITY: list[Json] = [{"bearer": []}, {"basic": []}, {"certificate": []}]
