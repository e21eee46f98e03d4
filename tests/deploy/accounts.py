"""deploy/postgres/accounts.sql, run by psql as the stack does."""

import re
import subprocess
from pathlib import Path

from tools.documents import ROOT

SQL = ROOT / "deploy" / "postgres" / "accounts.sql"
NAMES = re.findall(r"cat :secrets/(\w+)", SQL.read_text())


def apply(database: str, secrets: Path, vector: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script with psql, as the stack does; `vector`: how many there are, unless it is not said."""
    said = [] if vector is None else ["-v", f"vector={vector}"]
    command = ["psql", "-X", "-q", "-v", f"secrets={secrets}", *said, "-f", str(SQL), database]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
