"""The support archive as a file: what is in it, who may read it, and what stays when it cannot be written."""

import tarfile
from pathlib import Path

import pytest

from app.doctor.bundle import FOLDER, write
from app.errors import PermanentError


def test_entries_are_masked_and_private(tmp_path: Path) -> None:
    path = tmp_path / "support.tar.gz"
    write(path, {"a.txt": "a secret", "logs/b.log": "ü"}, lambda text: text.replace("secret", "***"))
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        found = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in found.items() if file}
    assert texts == {f"{FOLDER}/a.txt": "a ***", f"{FOLDER}/logs/b.log": "ü"}


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "support.tar.gz"
    path.write_text("mine")
    with pytest.raises(PermanentError, match="is there already"):
        write(path, {}, str)
    assert path.read_text() == "mine"


def test_half_an_archive_is_removed(tmp_path: Path) -> None:
    def full(text: str) -> str:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "support.tar.gz", {"a": "b"}, full)
    assert not list(tmp_path.iterdir())
