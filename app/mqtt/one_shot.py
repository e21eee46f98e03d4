"""One MQTT message, published and acknowledged; for a program that sends it and ends."""

import os
from concurrent.futures import Future

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from app.errors import PermanentError, TransientError
from app.mqtt.tls import mqtt_context
from app.runtime.addresses import HostPort
from app.runtime.tls import words
from app.settings import Settings

TIMEOUT = 10.0  # seconds for each of the broker's two answers
NOBODY = 0x10  # "No matching subscribers" of MQTT 5: the message is gone; a bridge that is away counts as one


def publish(settings: Settings, topic: str, payload: bytes) -> None:
    """Return once the broker has taken the message, QoS 1, under a client id of its own; blocks meanwhile.

    Raises TransientError when the broker is away or has nobody to give it to, PermanentError when it refuses the
    account or the message, ValueError when the TLS files of the settings cannot be used.
    """
    where = f"the MQTT broker at {HostPort(settings.mqtt_host, settings.mqtt_port)}"
    who = settings.mqtt_username or "an anonymous client"
    client = client_of(settings, f"iot-stream-{os.getpid()}")
    let_in, taken = _answers(client)
    try:
        client.connect(settings.mqtt_host, settings.mqtt_port, keepalive=30)
        client.loop_start()
        _check(let_in.result(TIMEOUT), f"{where} refuses {who}", "look at IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD")
        client.publish(topic, payload, qos=1)
        _check(taken.result(TIMEOUT), f"{where} does not take {topic} of {who}", "may this account publish there?")
    except TimeoutError:
        raise TransientError(f"{where} does not answer within {TIMEOUT:g} s") from None
    except OSError as error:  # ssl's errors are OSErrors
        cure = "start the broker, or set IOT_MQTT_HOST and IOT_MQTT_PORT to the broker's own"
        raise TransientError(f"no way into {where}: {words(error, 'the broker', 'IOT_MQTT')}; {cure}") from error
    finally:
        client.disconnect()
        client.loop_stop()
    if taken.result().value == NOBODY:
        raise TransientError(f"{where} knows nobody who takes {topic}: start the bridge, then try again")


def client_of(settings: Settings, client_id: str) -> paho.Client:
    """A client of MQTT 5 with the account and TLS of the settings; it is not connected yet.

    Raises ValueError when the TLS files cannot be used, OSError or ValueError when the password file cannot be read.
    """
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    if settings.mqtt_username is not None:
        client.username_pw_set(settings.mqtt_username, settings.mqtt_secret)
    if encrypted := mqtt_context(settings):
        client.tls_set_context(encrypted)
    return client


def _check(reason: ReasonCode, what: str, cure: str) -> None:
    if reason.is_failure:
        raise PermanentError(f"{what}: {reason}; {cure}")


def _answers(client: paho.Client) -> "tuple[Future[ReasonCode], Future[ReasonCode]]":
    """What the broker says to the connection, and to the message; from paho's thread."""
    let_in, taken = Future[ReasonCode](), Future[ReasonCode]()

    def connected(_: paho.Client, __: object, ___: object, reason: ReasonCode, ____: Properties | None) -> None:
        if not let_in.done():  # paho connects again by itself
            let_in.set_result(reason)

    def published(_: paho.Client, __: object, ___: int, reason: ReasonCode, ____: Properties) -> None:
        if not taken.done():
            taken.set_result(reason)

    client.on_connect, client.on_publish = connected, published
    return let_in, taken
