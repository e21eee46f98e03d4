"""What the panels of operations ask, of the programs that the reader has chosen; and from which value on it matters."""

from tools.monitoring.panels import Steps, mapped

CHOSEN = 'job=~"$job",instance=~"$instance"'
RATE = "$__rate_interval"


def of(metric: str, labels: str = "") -> str:
    """A selector in PromQL: a metric of the programs that are chosen; `labels` are further matchers."""
    return f"{metric}{{{labels + ',' if labels else ''}{CHOSEN}}}"


def rate(metric: str, by: str = "", labels: str = "") -> str:
    """PromQL for what a counter gains in a second, summed, or summed by the labels `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({of(metric, labels)}[{RATE}]))"


def gained(metric: str, by: str = "") -> str:
    """PromQL for what a counter has gained in a step of the graph, summed, or summed by the labels `by`."""
    return f"sum{f' by ({by})' if by else ''} (increase({of(metric)}[{RATE}]))"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """PromQL for the quantile `share` (0 to 1) of what a histogram has counted lately, or of each of the
    labels `by`.
    """
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'le, {by}' if by else 'le')})"


def above(*steps: tuple[float, str]) -> Steps:
    """Steps that are green below the first of `steps`, (from this value on, colour) in ascending order."""
    return ((None, "green"), *steps)


LATE = above((10, "yellow"), (300, "red"))
ANY = above((1, "red"))
SOME = above((1, "yellow"), (1000, "red"))
BREAKER = mapped([(0, "closed", "green"), (0.5, "half-open", "yellow"), (1, "open", "red")])
