"""A worker's /metrics and /ready, read once: in, its address; out, the samples, or why there are none."""

import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 5.0  # seconds


class Page(NamedTuple):
    """The metrics and readiness of one process."""

    url: str
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]  # by name and labels in order
    checks: dict[str, Any]  # of /ready
    advice: dict[str, str]  # of /ready: the part that is held up -> what to do about it

    def value(self, name: str) -> float:
        """The value of a metric without labels; 0 when the page lacks the metric."""
        return self.samples.get((name, ()), 0.0)

    def by(self, name: str, label: str) -> dict[str, float]:
        """The sums of a metric by one of its labels. Raises KeyError when a sample of it lacks that label."""
        found: dict[str, float] = {}
        for (sample, labels), value in self.samples.items():
            if sample == name:
                key = dict(labels)[label]
                found[key] = found.get(key, 0.0) + value
        return found

    def fleet(self) -> str | None:
        """The fleet of the process (its IOT_APP); None when the page does not name it."""
        found = (dict(labels).get("app") for sample, labels in self.samples if sample == "iot_build_info")
        return next(found, None)

    def ledger(self) -> dict[int, dict[str, int]]:
        """{partition: {outcome: records}} since the worker's start."""
        found: dict[int, dict[str, int]] = {}
        for (sample, labels), value in self.samples.items():
            if sample == "iot_ledger_total":
                one = dict(labels)
                found.setdefault(int(one["partition"]), {})[one["outcome"]] = int(value)
        return found


def read(url: str) -> Page:
    """Ask the process at `url`, without /metrics at its end; blocks for up to TIMEOUT twice. Raises OSError when it
    does not answer, ValueError when that is no metrics page.
    """
    text = text_of(f"{url.rstrip('/')}/metrics")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    ready = json.loads(text_of(f"{url.rstrip('/')}/ready"))
    return Page(url, samples, ready.get("checks", {}), ready.get("advice", {}))


def text_of(url: str) -> str:
    """What an address of a program answers, also when it is not ready; blocks for up to TIMEOUT. Raises OSError when it
    does not answer.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - the operator's own address
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code != 503:  # the status of a process that is not ready
            raise
        with error:
            return error.read().decode()
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else error from None
