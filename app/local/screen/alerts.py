"""Alerts as they arrive over MQTT: in, the broker of the stack; out, each event of every user."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from app.local.servers.mosquitto import Mosquitto


class AlertListener:
    """A client that is subscribed to users/+/alerts while its context is entered."""

    def __init__(self, broker: Mosquitto, heard: Callable[[Mapping[str, Any]], None]) -> None:
        """`heard` is called for each alert event with its JSON as a mapping, in a thread of the client's own."""
        self._heard = heard
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(broker.username, broker.password)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._take
        self._client.connect_async(broker.host, broker.port)

    def __enter__(self) -> "AlertListener":
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @staticmethod
    def _subscribe(client: Client, _: Any, __: ConnectFlags, ___: ReasonCode, ____: Properties | None) -> None:
        client.subscribe("users/+/alerts", qos=1)

    def _take(self, _: Client, __: Any, message: MQTTMessage) -> None:
        try:
            alert = json.loads(message.payload)
        except ValueError:
            return
        if isinstance(alert, dict):
            self._heard(alert)
