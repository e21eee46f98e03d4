"""The MQTT broker: whether it takes the account of the bridge and the notifier."""

import asyncio
import os
import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from app.doctor.finding import Finding, broken, ok
from app.mqtt.tls import mqtt_context
from app.runtime.addresses import HostPort
from app.runtime.tls import words
from app.settings import Settings

AREA = "mqtt"
TIMEOUT = 5.0  # seconds


async def look(settings: Settings) -> list[Finding]:
    """Log in once, under a client id of its own: no other session is touched. Never raises for an outage."""
    return await asyncio.to_thread(_log_in, settings)


def _log_in(settings: Settings) -> list[Finding]:
    where = f"{HostPort(settings.mqtt_host, settings.mqtt_port)}"
    client = paho.Client(CallbackAPIVersion.VERSION2, _client_id(settings), protocol=MQTTProtocolVersion.MQTTv5)
    if settings.mqtt_username is not None:
        client.username_pw_set(settings.mqtt_username, settings.mqtt_secret)
    if encrypted := mqtt_context(settings):
        client.tls_set_context(encrypted)
    answered, answer = threading.Event(), []

    def connected(_: paho.Client, __: object, ___: object, reason: ReasonCode, ____: Properties | None) -> None:
        answer.append(reason)
        answered.set()

    client.on_connect = connected
    try:
        client.connect(settings.mqtt_host, settings.mqtt_port, keepalive=30)
        client.loop_start()
        answered.wait(TIMEOUT)
    except OSError as error:  # ssl's errors are OSErrors
        cure = "start the broker, or set IOT_MQTT_HOST, IOT_MQTT_PORT, IOT_MQTT_TLS and IOT_MQTT_CA_FILE as it has them"
        what = f"no way into the broker at {where}: {words(error, 'the broker', 'IOT_MQTT')}"
        return [broken(AREA, what, cure)]
    finally:
        client.disconnect()
        client.loop_stop()
    if not answer:
        return [broken(AREA, f"the broker at {where} takes the connection and says nothing", "look at its log")]
    if answer[0].is_failure:
        who = settings.mqtt_username or "nobody (no IOT_MQTT_USERNAME)"
        cure = "set IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD, or make the account"
        return [broken(AREA, f"the broker at {where} refuses {who}: {answer[0]}", cure)]
    how = ", encrypted" if encrypted else ""
    return [ok(AREA, f"{settings.mqtt_username or 'an anonymous client'} is let in at {where}{how}")]


def _client_id(settings: Settings) -> str:
    """A client id that EMQX grants the product's own accounts: each may use ids that begin with its name."""
    name = (settings.mqtt_username or "iot").replace("_", "-")
    return f"{name}-doctor-{os.getpid()}"
