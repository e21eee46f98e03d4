"""Configured names -> the client ids and share names that are used at the MQTT broker, which nobody else can guess.

A client id is a session, and whoever connects with it takes that session over, whatever his account: client ids are
global, over all listeners of a broker, and Mosquitto binds none to an account. Of a share it lets anybody have a part.
So both end in a digest that only the account's password yields: restarts and replicas agree on it without a file, two
bridges under one configured id still meet, and it is no use to anybody who has not the password already. A new password
is a new session. Where the broker binds ids to accounts (EMQX, deploy/emqx/emqx.conf) names may stay as they are.
"""

from functools import lru_cache
from hashlib import pbkdf2_hmac

ROUNDS = 100_000  # 50 ms, once: whoever sees an id, in the broker's log, pays that for each password he tries
DIGEST = 16  # bytes, so that no id is met by chance


def client_id(name: str, secret: str | None) -> str:
    """The client id for a configured one; the same without a secret."""
    return _with_digest("client", name, secret)


def share(name: str, secret: str | None) -> str:
    """The name of a shared subscription for a configured one; the same for all who have the secret."""
    return _with_digest("share", name, secret)


@lru_cache(maxsize=8)
def _with_digest(purpose: str, name: str, secret: str | None) -> str:
    if not secret:
        return name
    salt = f"iot-stream {purpose} {name}".encode()
    return f"{name}-{pbkdf2_hmac('sha256', secret.encode(), salt, ROUNDS, DIGEST).hex()}"
