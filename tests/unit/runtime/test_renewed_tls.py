"""Files of TLS that change under a server: what can be used is, what cannot changes nothing until it can."""

import os
from pathlib import Path

import pytest
import trustme

from app.runtime.renewed_tls import RenewedTls, TlsFiles


def renew(path: Path, content: bytes) -> None:
    """As a file system with a coarse clock would not hide it."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


def test_what_can_be_used_is_and_what_cannot_changes_nothing(tmp_path: Path) -> None:
    ca, path = trustme.CA(), tmp_path / "server.pem"
    content = [ca.issue_cert("a.example").private_key_and_cert_chain_pem.bytes() for _ in range(2)]
    path.write_bytes(content[0])
    tls = RenewedTls(TlsFiles(path))
    first = tls.context
    assert tls.look() is None
    renew(path, b"half of a file")
    assert tls.look() is None
    assert tls.look() is None
    path.unlink()
    assert tls.look() is None
    assert tls.context is first
    path.write_bytes(content[1])
    second = tls.look()
    assert second is tls.context is not first
    assert tls.look() is None


def test_files_that_cannot_be_used_at_the_start_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"no\.pem"):
        RenewedTls(TlsFiles(tmp_path / "no.pem"))
