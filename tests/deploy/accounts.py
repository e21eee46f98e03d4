"""deploy/postgres/accounts.sql, run by psql as the stack does."""

import re
import subprocess
from pathlib import Path

from tests.documents import ROOT

SQL = ROOT / "deploy" / "postgres" / "accounts.sql"
NAMES = re.findall(r"cat :secrets/(\w+)", SQL.read_text())


def apply(database: str, secrets: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with psql, as the stack does."""
    command = ["psql", "-X", "-q", "-v", f"secrets={secrets}", "-f", str(SQL), database]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
