"""One message to one channel, by way of apprise, in a guarded thread; out, whether the service has taken it."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.core.model.alert_event import Severity, Status
from app.errors import PermanentError, SettingsError, TransientError
from app.notify.channels.channel import AllowedTargets, Channel
from app.notify.channels.guard import guarded

INSTALL = "pip install 'iot-stream[channels]'"


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
        await asyncio.get_running_loop().run_in_executor(self._threads, self._send, channel, title, body, tone)

    def _send(self, channel: Channel, title: str, body: str, tone: str) -> None:
        with guarded(self._allowed) as watch:
            try:
                service = self._apprise.Apprise.instantiate(channel.url, asset=self._asset)
                if service is None:
                    raise PermanentError(f"apprise cannot use this {channel.scheme} URL")
                taken = service.notify(body=body, title=title, notify_type=tone, body_format="text")
            except OSError as error:  # libraries below let some through
                taken, error_name = False, type(error).__name__
            else:
                error_name = "no"
        if watch.refused is not None:
            raise PermanentError(watch.refused)
        if not taken:
            raise TransientError(f"the {channel.scheme} service did not take the message ({error_name} error is known)")

    def close(self) -> None:
        """Wait for no message under way: its thread ends with its time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def tone_of(status: str, severity: str) -> str:
    """How apprise shows an event: one of its types of notification."""
    if status == Status.RESOLVED:
        return "success"
    return {Severity.CRITICAL.value: "failure", Severity.WARNING.value: "warning"}.get(severity, "info")
