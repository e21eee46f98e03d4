"""Readings over HTTP: POST /v1/events, NDJSON, each user with an account of his own."""

from collections.abc import Mapping, Sequence

import aiohttp

from app.errors import PermanentError, TransientError
from app.local.fleet.gateway_fleet import Sample

PATIENCE = 30.0  # seconds for an answer


class HttpOutlet:
    """One session with the HTTP gateway at `url`."""

    def __init__(self, url: str, passwords: Mapping[str, str]) -> None:
        """`url` is the gateway's, without a path; `passwords`: of each user. To be made in the event loop
        that uses it.
        """
        self._url, self._passwords = f"{url}/v1/events", passwords
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))
        self._answered: set[Sample] = set()  # of a batch of which another user's part failed

    async def send(self, samples: Sequence[Sample]) -> int:
        """Send the samples in a request for each user; how many were refused. Raises TransientError: the same samples
        are to be sent again, without the samples that were answered; PermanentError when an account or the request is
        refused.
        """
        refused = 0
        for user in sorted({sample.user for sample in samples}):
            own = [sample for sample in samples if sample.user == user and sample not in self._answered]
            if own:
                refused += await self._post(user, own)
                self._answered.update(own)
        self._answered.clear()
        return refused

    async def _post(self, user: str, samples: Sequence[Sample]) -> int:
        body = b"\n".join([sample.line() for sample in samples])
        who = aiohttp.encode_basic_auth(user, self._passwords[user])
        headers = {"Content-Type": "application/x-ndjson", "Authorization": who}
        try:
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                if answer.status in (401, 403):
                    raise PermanentError(f"fleet: {self._url} refuses the account {user}: {answer.status}")
                if answer.status >= 429:
                    raise TransientError(f"fleet: {self._url} answers {answer.status}")
                said = await answer.json(content_type=None)  # for a batch without a good item: a problem, status 400
                if "rejected" not in said:
                    raise PermanentError(f"fleet: {self._url} answers {answer.status}: {said.get('detail')}")
                return len(said["rejected"])
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise TransientError(f"fleet: no answer of {self._url}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """End the session with its connections."""
        await self._session.close()
