"""What a webhook's receiver needs to know its sender: a secret and a message in, the headers of its signature out.

A secret that begins with `whsec_` signs as https://www.standardwebhooks.com says, so that receivers verify with a
library; any other secret signs in this program's own, older way.
"""

import base64
import binascii
import hashlib
import hmac

from app.errors import SettingsError

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)


class WebhookSigner:
    """Signs with one secret."""

    def __init__(self, secret: str) -> None:
        """Raises SettingsError for a secret with PREFIX whose rest is no base64 of as many bytes as KEY_BYTES says."""
        self._standard = secret.startswith(PREFIX)
        self._key = _key(secret.removeprefix(PREFIX)) if self._standard else secret.encode()

    def headers(self, name: str, seconds: int, body: bytes) -> dict[str, str]:
        """The headers for a message called `name`, the same for a repeat, that is sent `seconds` after 1970."""
        stamp = str(seconds)
        if not self._standard:
            digest = hmac.new(self._key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            return {"X-Iot-Timestamp": stamp, "X-Iot-Signature": f"sha256={digest}"}
        signed = f"{name}.{stamp}.".encode() + body
        digest = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": f"v1,{digest}"}


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in KEY_BYTES:
        least, most = KEY_BYTES[0], KEY_BYTES[-1]
        raise SettingsError(
            f"IOT_WEBHOOK_SECRET (or its file): behind {PREFIX} has to be the base64 of {least} to {most} bytes, as "
            f'`echo "{PREFIX}$(openssl rand -base64 32)"` makes it'
        )
    return key
