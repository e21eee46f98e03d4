"""A webhook: in, a message; out, whether its receiver has taken it; signed, so that the receiver knows its sender."""

import time

from aiohttp import ClientConnectorError, ClientError, ClientResponseError, ClientSession, ClientTimeout

from app.errors import PermanentError, TransientError
from app.notify.webhook_signature import WebhookSigner

# What a receiver says about this message; anything else that is no success is its trouble, or its operator's.
REFUSED = frozenset({400, 409, 413, 415, 422})
ANSWER_SHOWN = 200  # characters


class WebhookClient:
    """Posts to one URL."""

    def __init__(self, url: str, secret: str | None, seconds: float) -> None:
        """`seconds` is the longest a post may take, its connection and answer included; `secret` None: posts are not
        signed. Raises SettingsError for a secret that cannot be one.
        """
        self._url, self._signer = url, WebhookSigner(secret) if secret else None
        self._timeout = ClientTimeout(total=seconds)
        self._session: ClientSession | None = None

    async def post(self, name: str, body: bytes) -> None:
        """Post JSON, and return when the receiver answers 2xx; `name` is the Idempotency-Key, the same for a repeat.

        Raises PermanentError when the receiver refuses this message (REFUSED), TransientError for any other answer,
        redirections too, and without an answer in time. Neither quotes the URL.
        """
        if self._session is None:
            self._session = ClientSession(timeout=self._timeout)
        headers = {"Content-Type": "application/json", "Idempotency-Key": name}
        if self._signer is not None:
            headers |= self._signer.headers(name, int(time.time()), body)
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status in range(200, 300):
                    return
                shown = (await answer.content.read(ANSWER_SHOWN)).decode("utf-8", "replace")
        except (ClientError, OSError, TimeoutError) as error:
            raise TransientError(f"the webhook does not answer: {_words(error)}") from None  # the cause holds the URL
        failure = PermanentError if answer.status in REFUSED else TransientError
        raise failure(f"the webhook answers {answer.status}: {shown}")

    async def close(self) -> None:
        """Drop the connections; safe before the first post."""
        if self._session is not None:
            await self._session.close()


def _words(error: BaseException) -> str:
    """What went wrong, without the URL: that of a webhook often has a token in it, and some errors repeat it."""
    name = type(error).__name__
    if isinstance(error, ClientResponseError):
        return f"{name}: {error.status} {error.message}"
    if isinstance(error, ClientConnectorError) or not isinstance(error, ClientError):
        return f"{name}: {error}"
    return name
