"""One message to one channel, by way of apprise, in a guarded thread; out, whether the service has taken it."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.core.model.alert_event import Severity, Status
from app.errors import PermanentError, SettingsError, TransientError
from app.notify.channels.channel import AllowedTargets, Channel
from app.notify.channels.guard import ConnectionGuard, guarded

INSTALL = "pip install 'iot-stream[channels]'"
TIME_LIMIT = 30.0  # seconds for one message; the settings of a URL (rto, cto) and a slow service may ask for any time
THREADED = ("mqtt", "mqtts", "xmpp", "xmpps")  # schemes whose service connects in threads that nothing guards
# What a service of apprise lets through, of the libraries below it or for an answer it did not expect.
_FAULTS = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError)


class AppriseClient:
    """Sends in threads of its own, `at_once` messages at a time."""

    def __init__(self, allowed: AllowedTargets, at_once: int) -> None:
        """Raises SettingsError where apprise is not installed."""
        try:
            import apprise
        except ImportError as error:
            raise SettingsError(f"IOT_CHANNEL_SCHEMES needs apprise ({error}): {INSTALL}, or unset it") from error
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its warnings name hosts and users
        self._apprise: Any = apprise
        self._asset = apprise.AppriseAsset(app_id="iot-stream", async_mode=False, secure_logging=True)
        apprise.Apprise.instantiate("json://localhost", asset=self._asset)  # loads all services, outside the guard
        self._allowed = allowed
        self._threads = ThreadPoolExecutor(at_once, "channel")

    async def send(self, channel: Channel, title: str, body: str, tone: str) -> None:
        """Return once the service has the message; `tone` is of tone_of.

        Raises PermanentError for a channel that can never work (its URL, its scheme, where it goes), TransientError
        when the service does not take the message now. Neither quotes the URL.
        """
        if wrong := self._allowed.refuses_scheme(channel.scheme):
            raise PermanentError(wrong)
        if channel.scheme in THREADED:
            raise PermanentError(f"the scheme {channel.scheme!r} is of no channel: its connections cannot be guarded")
        loop, watch = asyncio.get_running_loop(), ConnectionGuard(self._allowed)
        limit = loop.call_later(TIME_LIMIT, watch.end)
        try:
            await loop.run_in_executor(self._threads, self._send, channel, (title, body, tone), watch)
        finally:
            limit.cancel()
            watch.end()  # of a message that is not waited for any more, too

    def _send(self, channel: Channel, message: tuple[str, str, str], watch: ConnectionGuard) -> None:
        title, body, tone = message
        with guarded(watch):
            try:
                service = self._apprise.Apprise.instantiate(channel.url, asset=self._asset)
                if service is None:
                    raise PermanentError(f"apprise cannot use this {channel.scheme} URL")
                taken, why = service.notify(body=body, title=title, notify_type=tone, body_format="text"), ""
            except _FAULTS as error:
                taken, why = False, f" ({type(error).__name__})"
        if watch.refused is not None:
            raise PermanentError(watch.refused)
        if not taken:
            why = f" within {TIME_LIMIT:g} s" if watch.over else why
            raise TransientError(f"the {channel.scheme} service did not take the message{why}")

    def close(self) -> None:
        """Wait for no message under way: its connections have ended with the task that waited for it."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def tone_of(status: str, severity: str) -> str:
    """How apprise shows an event: one of its types of notification."""
    if status == Status.RESOLVED:
        return "success"
    return {Severity.CRITICAL.value: "failure", Severity.WARNING.value: "warning"}.get(severity, "info")
