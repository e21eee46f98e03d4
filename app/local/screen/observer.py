"""What the live screen shows: the worker's metrics, polled, and the alerts, as they arrive over MQTT."""

import json
import time
import urllib.error
import urllib.request
from collections import deque
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from app.local.screen.figures import ScreenFigures, read_figures
from app.local.screen.screen import View
from app.local.servers.mosquitto import Mosquitto

ALERTS_SHOWN = 10


class Observer:
    """Looks at a running stack as its operator."""

    def __init__(self, broker: Mosquitto, metrics_url: str, where: str) -> None:
        self._url, self._where = f"{metrics_url}/metrics", where
        self._alerts: deque[dict[str, Any]] = deque(maxlen=ALERTS_SHOWN)
        self._before: tuple[float, ScreenFigures] | None = None
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(broker.username, broker.password)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._take
        self._client.connect_async(broker.host, broker.port)

    def __enter__(self) -> "Observer":
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
            self._alerts.appendleft(alert)

    def look(self, unwell: list[str]) -> View:
        """The present moment; the rate is that since the look before."""
        figures, now, rate = self._figures(), time.monotonic(), 0.0
        if figures is not None:
            if self._before is not None:
                rate = figures.rate_since(self._before[1], now - self._before[0])
            self._before = (now, figures)
        return View(figures, rate, tuple(self._alerts), unwell, self._where)

    def _figures(self) -> ScreenFigures | None:
        try:
            with urllib.request.urlopen(self._url, timeout=2) as page:  # noqa: S310 - always http://127.0.0.1
                return read_figures(page.read().decode())
        except (urllib.error.URLError, OSError, ValueError):
            return None
