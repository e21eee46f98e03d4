"""Whether the MQTT broker answers: for GetHealth of a gateway, which has nothing to do with one and is asked about it.

A broker that lets this account not in answers all the same.
"""

import asyncio
import os
import time

from app.errors import TransientError
from app.mqtt.connection import BrokerAccount, Connection, NotTakenError
from app.mqtt.tls import mqtt_context
from app.settings import Settings

KEPT_SECONDS = 5.0  # an answer counts for so long, whoever asks, so that nobody makes us knock more often
ASKED_SECONDS = 3.0


class MqttReach:
    """Whether one broker answers."""

    def __init__(self, account: BrokerAccount) -> None:
        self._account = account
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._answered = False

    async def asked(self) -> bool:
        """Whether the broker answers a login, also by a refusal; as of the last KEPT_SECONDS, else within
        ASKED_SECONDS.

        Never raises.
        """
        async with self._lock:
            if time.monotonic() >= self._until:
                self._answered = await self._ask()
                self._until = time.monotonic() + KEPT_SECONDS
            return self._answered

    async def _ask(self) -> bool:
        account = self._account
        try:
            async with asyncio.timeout(ASKED_SECONDS):
                loop = asyncio.get_running_loop()
                _, made = await loop.create_connection(
                    lambda: Connection(account), account.host, account.port, ssl=account.tls
                )
                try:
                    await asyncio.shield(made.accepted)
                finally:
                    made.close()
        except NotTakenError:
            return True
        except (OSError, TransientError, TimeoutError):
            return False
        return True


def mqtt_reach(settings: Settings) -> MqttReach | None:
    """The reach of the broker that the settings name; None where they name none: the default is this machine, which
    need not have one. Raises ValueError when the TLS files cannot be used.
    """
    if not {"mqtt_host", "mqtt_port"} & settings.model_fields_set:
        return None
    # An id that EMQX lets the product's own accounts have, which are bound to ids that begin with their name.
    name = (settings.mqtt_username or "iot").replace("_", "-")
    return MqttReach(
        BrokerAccount(
            host=settings.mqtt_host,
            port=settings.mqtt_port,
            client_id=f"{name}-gateway-{os.getpid()}",
            username=settings.mqtt_username,
            password=settings.mqtt_secret,
            tls=mqtt_context(settings),
        )
    )
