"""Ports of two stacks, while neither listens."""

import subprocess
import sys
from pathlib import Path

from app.local.layout import DEFAULT_PORTS, Layout
from app.local.port_claims import PortClaims


def silent(port: int, kind: int) -> bool:
    """Nothing listens anywhere, whatever else runs on this machine."""
    return True


def test_a_port_of_another_stack_is_left_alone_while_nothing_listens_there(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    first, second = PortClaims(tmp_path / "ports"), PortClaims(tmp_path / "ports")
    chosen = Layout(tmp_path / "one").choose_ports(first.claim, silent)
    others = Layout(tmp_path / "two").choose_ports(second.claim, silent)
    assert chosen == DEFAULT_PORTS
    assert set(others) == set(DEFAULT_PORTS)
    assert not set(chosen.values()) & set(others.values())
    second.close()
    assert Layout(tmp_path / "three").choose_ports(first.claim, silent) == chosen
    assert not second.claim(chosen["worker"])
    first.close()
    assert second.claim(chosen["worker"])
    second.close()


def test_a_process_that_ends_gives_its_claims_up(tmp_path: Path) -> None:
    code = "import pathlib, sys; from app.local.port_claims import PortClaims; "
    code += "assert PortClaims(pathlib.Path(sys.argv[1])).claim(9002)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    claims = PortClaims(tmp_path)
    assert claims.claim(9002)
    claims.close()
