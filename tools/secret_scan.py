"""The search for secrets in the repository, run by `make check`: in, git's files; out, each line like a secret.

A line with an intended password (of a test or an example) contains `not a secret`.
"""

import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.documents import ROOT

MEANT = "not a secret"
MOST_BYTES = 2 << 20
SKIPPED = {".lock", ".png", ".jpg", ".gz"}  # lock files contain digests
LEAST_ENTROPY = 3.5  # bits per character: words and placeholders have fewer, random text from 16 characters on has more

KINDS: dict[str, re.Pattern[str]] = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*$"),
    "cloud key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}\b"),
    "access token": re.compile(
        r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}|\bpypi-[\w-]{40,}|\bnpm_\w{36}\b"
    ),
    "signed token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
}
_ASSIGNED = re.compile(
    r"(?i)(?:passw(?:or)?d|secret|token|api_?key|cookie)\w*[\"']?\s*[:=]\s*[\"']?([A-Za-z0-9+/=_-]{16,})"
)
_IN_URL = re.compile(r"\w://[^\s/:@{}$<]+:([^\s/@{}$<]{8,})@")


class Found(NamedTuple):
    """A line that looks like a secret."""

    file: str
    line: int
    kind: str


def scan(text: str, name: str) -> Iterator[Found]:
    """Each line of `text` that looks like a secret and does not contain MEANT."""
    for number, line in enumerate(text.splitlines(), 1):
        if MEANT not in line and (kind := _kind(line)):
            yield Found(name, number, kind)


def _kind(line: str) -> str | None:
    for kind, pattern in KINDS.items():
        if pattern.search(line):
            return kind
    for pattern in (_ASSIGNED, _IN_URL):
        if any(entropy(value) >= LEAST_ENTROPY and any(c.isdigit() for c in value) for value in pattern.findall(line)):
            return "password"
    return None


def entropy(text: str) -> float:
    """Bits per character of `text`, from the frequency of each character (Shannon); 0 for an empty text."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def files(root: Path = ROOT) -> list[str]:
    """Paths of tracked and untracked files below `root`, without ignored files and without SKIPPED extensions.

    Raises CalledProcessError outside a checkout.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode()
    return [name for name in listed.split("\0") if name and Path(name).suffix not in SKIPPED]


def main() -> int:
    """Print each found line to standard error; the exit code is 1 when a line was found, otherwise 0."""
    found: list[Found] = []
    for name in files():
        path = ROOT / name
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            found += scan(path.read_text(errors="replace"), name)
    for one in found:
        print(
            f"{one.file}:{one.line}: looks like a {one.kind}; if it is none, say `{MEANT}` on the line", file=sys.stderr
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
