"""A fleet that publishes at a steady rate in an open loop: one MQTT connection per device, QoS 1.

A message's `time` is its scheduled time, not the time of sending: a stall anywhere, also in this process, makes the
messages after the stall late instead of fewer. `sequence_id` counts the messages of the fleet from 0.
Prints two JSON lines: first the scheduled time of the first message, last the delays of sending in seconds.
"""

import argparse
import json
import os
import selectors
import socket
import threading
import time
from datetime import UTC, datetime

import mqtt5

from tools.bench.load import USERS

SPIKE_EVERY = 100  # readings of a device per alert
HEAD_START = 0.2  # seconds between the last connection and the first message
PATIENCE = 30.0  # seconds for the last acknowledgements
PUBACK = 0x40


class Fleet:
    """Connections of `devices` devices; one thread sends messages, another thread counts acknowledgements."""

    def __init__(self, address: tuple[str, int], account: tuple[str, str], devices: int) -> None:
        self._sockets = [_connect(address, account, f"d{number}") for number in range(devices)]
        self.acked = 0
        self._stop = False
        self._reader = threading.Thread(target=self._count)
        self._reader.start()

    def run(self, start: float, rate: float, count: int) -> dict[str, float]:
        """Send `count` messages, `rate` per second from `start` on; out, the delays of sending in seconds.

        Raises TimeoutError for lost PUBACKs.
        """
        late = []
        for number in range(count):
            due = start + number / rate
            wait = due - time.time()
            if wait > 0:
                time.sleep(wait)
            self._sockets[number % len(self._sockets)].sendall(packet(number, len(self._sockets), due))
            late.append(time.time() - due)
        deadline = time.monotonic() + PATIENCE
        while self.acked < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the MQTT broker acknowledged {self.acked} of {count} messages")
            time.sleep(0.01)
        late.sort()
        return {"p50": late[count // 2], "p99": late[int(0.99 * count)], "max": late[-1]}

    def close(self) -> None:
        """Stop the reading thread and close the connections."""
        self._stop = True
        self._reader.join()
        for each in self._sockets:
            each.close()

    def _count(self) -> None:
        rest = {each: b"" for each in self._sockets}
        with selectors.DefaultSelector() as selector:
            for one in self._sockets:
                selector.register(one, selectors.EVENT_READ, one)
            while not self._stop:
                for key, _ in selector.select(0.1):
                    each: socket.socket = key.data
                    got = each.recv(65536)
                    if not got:
                        raise ConnectionError("the MQTT broker closed a device's connection")
                    acked, rest[each] = _acks(rest[each] + got)
                    self.acked += acked


def packet(number: int, devices: int, due: float) -> bytes:
    """The PUBLISH of the fleet's message `number`; its payload has about 135 bytes."""
    device, turn = number % devices, number // devices
    user = device % USERS
    when = datetime.fromtimestamp(due, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    temperature = 95.5 if (turn + device) % SPIKE_EVERY == 0 else 20.5 + turn % 50
    payload = (
        f'{{"time":"{when}","user_id":"u{user}","device_id":"d{device}","sequence_id":{number},'
        f'"temperature":{temperature},"battery":{20 + number % 80},"humidity":41.2}}'
    )
    topic = f"users/u{user}/devices/d{device}/telemetry"
    made = mqtt5.PublishPacket(topic, payload.encode(), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=turn % 65535 + 1)
    return bytes(made.write())


def _connect(address: tuple[str, int], account: tuple[str, str], client_id: str) -> socket.socket:
    username, password = account
    made = socket.create_connection(address, timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.sendall(mqtt5.ConnectPacket(client_id, username=username, password=password.encode(), keep_alive=0).write())
    answer, _ = mqtt5.read(memoryview(made.recv(4096)))
    assert isinstance(answer, mqtt5.ConnAckPacket), answer
    assert answer.reason_code == mqtt5.ConnAckReasonCode.SUCCESS, answer
    return made


def _acks(data: bytes) -> tuple[int, bytes]:
    """(number of whole PUBACKs in `data`, the remaining bytes). Raises ValueError for any other packet."""
    found = at = 0
    while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
        if data[at] != PUBACK:
            raise ValueError(f"the MQTT broker sent a packet of type {data[at] >> 4} instead of a PUBACK")
        at += 2 + data[at + 1]
        found += 1
    return found, data[at:]


def main() -> None:
    """Publish as the command line says; the password comes from $MQTT_PASSWORD."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--username", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    options = parser.parse_args()
    account = options.username, os.environ["MQTT_PASSWORD"]
    fleet = Fleet((options.host, options.port), account, options.devices)
    try:
        start = time.time() + HEAD_START
        print(json.dumps({"start": start}), flush=True)
        print(json.dumps(fleet.run(start, options.rate, options.count)), flush=True)
    finally:
        fleet.close()


if __name__ == "__main__":
    main()
