"""The AsyncAPI document: every topic of MQTT and Kafka, who writes it, its messages, their headers, keys and schemas.

The topics' names are those of the settings, the payloads the JSON Schemas of the catalogue.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from app.cli.schemas import headers
from app.cli.schemas.catalogue import CATALOGUE, DIALECT
from app.core.schema.schema import Schema
from app.kafka.topics import TopicSpec, wanted
from app.runtime.version import VERSION
from app.settings import Settings

Json = dict[str, Any]

SPECIFICATION = "3.0.0"
FORMAT = "application/schema+json;version=2020-12"
_PARAMETERS = {
    "user": "the user's id; over MQTT the account's name",
    "device": "the device's id; over MQTT the client id",
    "node": "the node's id; over MQTT the account's name",
    "sensor": "the sensor's id",
}
# Of a topic's settings, those that AsyncAPI's binding for Kafka knows.
_TOPIC_SETTINGS = ("cleanup.policy", "retention.ms", "delete.retention.ms", "max.message.bytes")


class ChannelEntry(NamedTuple):
    """One topic: its address, its messages by names of the catalogue, and what iot-stream does with it."""

    address: str
    messages: tuple[str, ...]
    action: str  # receive or send, of iot-stream
    what: str


MQTT: Mapping[str, ChannelEntry] = {
    "deviceTelemetry": ChannelEntry(
        "users/{user}/devices/{device}/telemetry", ("telemetry",), "receive", "Readings of a device."
    ),
    "sensorTelemetry": ChannelEntry(
        "iot/{node}/{sensor}/telemetry", ("sensor-telemetry",), "receive", "Readings of a sensor of a node."
    ),
    "nodeStatus": ChannelEntry(
        "iot/{node}/status", ("status",), "receive", "A node's word about itself, or its last will."
    ),
    "userConfig": ChannelEntry(
        "users/{user}/config", ("rules",), "receive", "The user's rules, maintenance windows and sampling."
    ),
    "alertCommands": ChannelEntry(
        "users/{user}/alerts/manage", ("command",), "receive", "SNOOZE, DISABLE, ENABLE or ACK of an alert."
    ),
    "alerts": ChannelEntry(
        "users/{user}/alerts", ("alert", "digest"), "send",
        "Each event of an alert's life, QoS 1, not retained; in a storm a digest of what was held back.",
    ),
    "configErrors": ChannelEntry(
        "users/{user}/config/errors", ("refusal",), "send", "Why a configuration was refused; the old one stays."
    ),
    "commandErrors": ChannelEntry(
        "users/{user}/alerts/errors", ("refusal",), "send", "What became of a command."
    ),
}  # fmt: skip


def kafka_channels(settings: Settings) -> Mapping[str, ChannelEntry]:
    """The topics of Kafka, under the settings' names."""
    taken = ("telemetry", "sensor-telemetry", "status", "rules", "command")
    return {
        "input": ChannelEntry(
            settings.kafka_topic, taken, "receive",
            "Every message that came in, byte for byte. Bridge and gateways write it; so may you. A record without "
            "headers is telemetry whose payload has user_id and device_id. Kind silence is the workers' own.",
        ),
        "deadLetters": ChannelEntry(
            settings.kafka_dlq_topic, ("dead-letter",), "send", "What can never be stored, with its reason."
        ),
        "quarantine": ChannelEntry(
            settings.kafka_quarantine_topic, ("dead-letter",), "send", "Dead letters that no replay has cured."
        ),
        "alertOutbox": ChannelEntry(
            settings.kafka_alerts_topic, ("alert", "refusal"), "send",
            "Alerts on their way to MQTT and the webhook. A record with the header mqtt_topic is a refusal.",
        ),
    }  # fmt: skip


def asyncapi(settings: Settings) -> Json:
    """The document for the topics and columns of `settings`; no secret is in it."""
    kafka, specs = kafka_channels(settings), {one.name: one for one in wanted(settings)}
    channels = {name: _channel(name, one, "mqtt") for name, one in MQTT.items()}
    for name, one in kafka.items():
        channels[name] = {**_channel(name, one, "kafka"), "bindings": _binding(one.address, specs)}
    every = {**MQTT, **kafka}
    return {
        "asyncapi": SPECIFICATION,
        "info": {
            "title": "iot-stream",
            "version": VERSION,
            "description": "Telemetry over MQTT to Kafka, TimescaleDB and alerts. Actions are those of iot-stream: it "
            "receives what you send.",
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(settings),
        "channels": channels,
        "operations": {
            f"{one.action}{name[0].upper()}{name[1:]}": _operation(name, one) for name, one in every.items()
        },
        "components": {
            "messages": {
                f"{side}-{name}": _message(side, name)
                for side, entries in (("mqtt", MQTT), ("kafka", kafka))
                for name in sorted({message for one in entries.values() for message in one.messages})
            },
            "schemas": {name: _schema(name, settings.telemetry_schema) for name in CATALOGUE if name != "settings"},
        },
    }


def _servers(settings: Settings) -> Json:
    mqtt = "secure-mqtt" if settings.mqtt_tls else "mqtt"
    kafka = "kafka" if settings.kafka_security_protocol.endswith("PLAINTEXT") else "kafka-secure"
    broker = settings.kafka_broker.split(",")[0].strip()
    return {
        "mqtt": {"host": f"{settings.mqtt_host}:{settings.mqtt_port}", "protocol": mqtt, "protocolVersion": "5"},
        "kafka": {"host": broker, "protocol": kafka},
    }


def _channel(name: str, entry: ChannelEntry, server: str) -> Json:
    parameters = {one: {"description": what} for one, what in _PARAMETERS.items() if f"{{{one}}}" in entry.address}
    messages = {message: {"$ref": f"#/components/messages/{server}-{message}"} for message in entry.messages}
    made = {
        "address": entry.address, "description": entry.what, "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": messages,
    }  # fmt: skip
    return {**made, "parameters": parameters} if parameters else made


def _binding(topic: str, specs: Mapping[str, TopicSpec]) -> Json:
    binding: Json = {"topic": topic, "bindingVersion": "0.5.0"}
    if spec := specs.get(topic):
        config = {"cleanup.policy": "delete", **spec.config}
        made: Json = {name: int(config[name]) for name in _TOPIC_SETTINGS[1:] if name in config}
        binding |= {"partitions": spec.partitions, "topicConfiguration": {"cleanup.policy": [config["cleanup.policy"]]}}
        binding["topicConfiguration"] |= made
    return {"kafka": binding}


def _operation(name: str, entry: ChannelEntry) -> Json:
    messages = [{"$ref": f"#/channels/{name}/messages/{message}"} for message in entry.messages]
    made: Json = {"action": entry.action, "channel": {"$ref": f"#/channels/{name}"}, "messages": messages}
    if name in MQTT:
        made["bindings"] = {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}}
    return made


def _message(side: str, name: str) -> Json:
    made: Json = {"name": name, "title": CATALOGUE[name].title, "payload": {"$ref": f"#/components/schemas/{name}"}}
    if side == "kafka":
        made["headers"] = headers.of_message(name)
        made["bindings"] = {"kafka": {"key": headers.KEY, "bindingVersion": "0.5.0"}}
    return made


def _schema(name: str, schema: Schema) -> Json:
    made = {"$schema": DIALECT, **CATALOGUE[name].made(schema)}
    return {"schemaFormat": FORMAT, "schema": _placed(made, f"#/components/schemas/{name}/schema")}


def _placed(part: Any, root: str) -> Any:
    """A part of a schema whose references to its own root begin at `root`."""
    if isinstance(part, dict):
        return {
            key: f"{root}{value[1:]}" if key == "$ref" and isinstance(value, str) else _placed(value, root)
            for key, value in part.items()
        }
    return [_placed(one, root) for one in part] if isinstance(part, list) else part
