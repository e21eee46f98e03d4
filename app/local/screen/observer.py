"""What the lines of `iot-stream run` say: the worker's metrics, polled."""

import time
import urllib.error
import urllib.request

from app.local.screen.figures import ScreenFigures, read_figures
from app.local.screen.screen import View


class Observer:
    """Looks at the worker of a running stack."""

    def __init__(self, metrics_url: str) -> None:
        """`metrics_url` is the worker's, without /metrics at its end."""
        self._url = f"{metrics_url}/metrics"
        self._before: tuple[float, ScreenFigures] | None = None

    def look(self, unwell: list[str]) -> View:
        """The present moment; the rate is that since the look before, 0 at the first. `unwell` are the names of
        processes that do not run. A worker that does not answer within 2 s has no figures. Never raises.
        """
        figures, now, rate = self._figures(), time.monotonic(), 0.0
        if figures is not None:
            if self._before is not None:
                rate = figures.rate_since(self._before[1], now - self._before[0])
            self._before = (now, figures)
        return View(figures, rate, unwell)

    def _figures(self) -> ScreenFigures | None:
        try:
            with urllib.request.urlopen(self._url, timeout=2) as page:  # noqa: S310 - always http://127.0.0.1
                return read_figures(page.read().decode())
        except (urllib.error.URLError, OSError, ValueError):
            return None
