"""What one message to one channel can do to the process that sends it: hang, fail, go elsewhere."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from app.errors import PermanentError, TransientError
from app.notify.channels import apprise_client
from app.notify.channels.apprise_client import AppriseClient
from app.notify.channels.channel import AllowedTargets, Channel

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # of a library of one of apprise's services
ALLOWED = AllowedTargets(("json", "mailto", "mqtt"), ("*",), ("127.0.0.1",))


class Service:
    """Answers each connection with `answer`, or byte after byte until its reader is gone."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer, self.taken, self.reached = answer, 0, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.taken += 1
            self.reached.set()
            with connection, suppress(OSError):
                connection.recv(65536)
                while self.answer is None:
                    connection.sendall(b"H")
                    time.sleep(0.01)
                connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def client() -> Iterator[AppriseClient]:
    made = AppriseClient(ALLOWED, at_once=1)
    yield made
    made.close()


async def send(client: AppriseClient, url: str) -> None:
    await client.send(Channel(url), "title", "body", "info")


async def test_a_service_takes_a_message(client: AppriseClient) -> None:
    service = Service(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    try:
        await send(client, f"json://127.0.0.1:{service.port}/alerts")
    finally:
        service.close()
    assert service.taken == 1


async def test_a_service_that_answers_byte_by_byte_has_its_time_and_no_more(
    client: AppriseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise_client, "TIME_LIMIT", 0.2)
    service = Service(None)
    try:
        with pytest.raises(TransientError, match=r"did not take the message within 0\.2 s"):
            await send(client, f"json://127.0.0.1:{service.port}/alerts?rto=3600")
        waiting = asyncio.create_task(
            send(client, f"mailto://127.0.0.1:{service.port}?from=a@b.org&to=c@d.org&rto=3600")
        )
        with pytest.raises(TransientError, match="the mailto service did not take"):
            await waiting
    finally:
        service.close()


async def test_a_message_that_is_not_waited_for_any_more_frees_its_thread(client: AppriseClient) -> None:
    hung, well = Service(None), Service(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    try:
        waiting = asyncio.create_task(send(client, f"json://127.0.0.1:{hung.port}/?rto=3600"))
        await asyncio.to_thread(hung.reached.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await send(client, f"json://127.0.0.1:{well.port}/")
    finally:
        hung.close()
        well.close()


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:1/",
        f"mailto://{'x' * 70}.example.com?from=a@b.org&to=c@d.org",
    ],
)  # fmt: skip
async def test_what_fails_in_a_service_fails_for_this_channel_alone(client: AppriseClient, url: str) -> None:
    with pytest.raises(TransientError, match="did not take the message"):
        await send(client, url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtt://127.0.0.1/topic", "cannot be guarded"),
        (f"json://{'x' * 70}.example.com/", "apprise cannot use this json URL"),
        ("json://", "apprise cannot use this json URL"),
        ("json://[::ffff:127.0.0.1]:1/", "apprise cannot use"),
        ("json://127.0.0.1:x@127.0.0.2:1/", "private address 127.0.0.2"),
        ("json://2130706433:1/", "private address 127.0.0.1"),
        ("json://localhost:1/", "is at the private address"),
        ("file:///etc/passwd", "not in IOT_CHANNEL_SCHEMES"),
    ],
)
async def test_where_a_url_does_not_lead(client: AppriseClient, url: str, words: str) -> None:
    with pytest.raises(PermanentError) as caught:
        await send(client, url)
    assert words in str(caught.value)
