"""The benchmarks live in tools/bench; `python -m tests.bench.NAME`, as older instructions have it, runs the same."""

from tools.bench import __path__ as __path__
