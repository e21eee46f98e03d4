"""Configured names -> the client ids and share names that are used at the MQTT broker, which nobody else can guess.

A client id is a session, and a client that connects under this id takes the session over, whatever the account: ids
are global, over all listeners of a broker, and Mosquitto binds no id to an account. Mosquitto lets anybody have a part
of a share, too. So client ids and share names end in a digest that only the account's password yields: restarts and
replicas agree on the digest without a file, two bridges under one configured id still meet, and the digest is of no use
to anybody who does not have the password already. A new password is a new session. Where the broker binds ids to
accounts (EMQX, deploy/emqx/emqx.conf) names may stay as they are.
"""

from functools import lru_cache
from hashlib import pbkdf2_hmac

ROUNDS = 100_000  # 50 ms, once: a reader of the broker's log pays these 50 ms for each password to try on an id
DIGEST = 16  # bytes, so that no id is met by chance


def client_id(name: str, secret: str | None) -> str:
    """The client id for a configured name; the name itself without a secret."""
    return _with_digest("client", name, secret)


def share(name: str, secret: str | None) -> str:
    """The name of a shared subscription for a configured name; equal for everybody who has the secret."""
    return _with_digest("share", name, secret)


@lru_cache(maxsize=8)
def _with_digest(purpose: str, name: str, secret: str | None) -> str:
    if not secret:
        return name
    salt = f"iot-stream {purpose} {name}".encode()
    return f"{name}-{pbkdf2_hmac('sha256', secret.encode(), salt, ROUNDS, DIGEST).hex()}"
