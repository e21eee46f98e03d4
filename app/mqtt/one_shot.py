"""One MQTT message, published and acknowledged, and perhaps answered; for a program that sends it and ends."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

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
    client = client_of(settings, f"iot-stream-{os.getpid()}")
    with _connected(settings, client):
        _publish(settings, client, topic, payload)


def ask(
    settings: Settings, topic: str, payload: bytes, answers: str, request_id: str, seconds: float
) -> dict[str, Any]:
    """Publish as `publish` does, and return the first JSON object on the topic `answers` with this `request_id`; blocks
    for `seconds` at most after the broker has the message.

    Raises what `publish` raises, and TransientError when no answer comes, PermanentError when the account may not read
    the answers; then nothing was published.
    """
    client = client_of(settings, f"iot-stream-{os.getpid()}")
    subscribed, answered = Future[ReasonCode](), Future[dict[str, Any]]()

    def heard(_: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        found = _object(message.payload)
        if found.get("request_id") == request_id and not answered.done():
            answered.set_result(found)

    def acknowledged(_: paho.Client, __: object, ___: int, reasons: list[ReasonCode], ____: Properties | None) -> None:
        if not subscribed.done():
            subscribed.set_result(reasons[0])

    client.on_message, client.on_subscribe = heard, acknowledged
    with _connected(settings, client):
        client.subscribe(answers, qos=1)
        cure = "may this account read there? --wait 0 sends without waiting for the answer"
        _check(subscribed.result(TIMEOUT), f"{_where(settings)} does not let {_who(settings)} read {answers}", cure)
        _publish(settings, client, topic, payload)
        try:
            return answered.result(seconds)
        except TimeoutError:
            cure = "the broker has the message, which may have been obeyed, or may yet be: the notifier brings the"
            cure += " answer; look whether bridge, worker and notifier run"
            raise TransientError(f"no answer on {answers} within {seconds:g} s: {cure}") from None


def _where(settings: Settings) -> str:
    return f"the MQTT broker at {HostPort(settings.mqtt_host, settings.mqtt_port)}"


def _who(settings: Settings) -> str:
    return settings.mqtt_username or "an anonymous client"


def _object(payload: bytes | bytearray) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _connected(settings: Settings, client: paho.Client) -> Iterator[None]:
    """The client, let in by the broker; gone afterwards. Raises as `publish` does, also for what is done inside."""
    where, let_in = _where(settings), Future[ReasonCode]()

    def connected(_: paho.Client, __: object, ___: object, reason: ReasonCode, ____: Properties | None) -> None:
        if not let_in.done():  # paho connects again by itself
            let_in.set_result(reason)

    client.on_connect = connected
    try:
        client.connect(settings.mqtt_host, settings.mqtt_port, keepalive=30)
        client.loop_start()
        cure = "look at IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD"
        _check(let_in.result(TIMEOUT), f"{where} refuses {_who(settings)}", cure)
        yield
    except TimeoutError:
        raise TransientError(f"{where} does not answer within {TIMEOUT:g} s") from None
    except OSError as error:  # ssl's errors are OSErrors
        cure = "start the broker, or set IOT_MQTT_HOST and IOT_MQTT_PORT to the broker's own"
        raise TransientError(f"no way into {where}: {words(error, 'the broker', 'IOT_MQTT')}; {cure}") from error
    finally:
        client.disconnect()
        client.loop_stop()


def _publish(settings: Settings, client: paho.Client, topic: str, payload: bytes) -> None:
    taken = Future[ReasonCode]()

    def published(_: paho.Client, __: object, ___: int, reason: ReasonCode, ____: Properties) -> None:
        if not taken.done():
            taken.set_result(reason)

    client.on_publish = published
    client.publish(topic, payload, qos=1)
    where, who = _where(settings), _who(settings)
    _check(taken.result(TIMEOUT), f"{where} does not take {topic} of {who}", "may this account publish there?")
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
