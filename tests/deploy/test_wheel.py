"""The wheel and the source distribution are complete: what is installed sets up a database without the source."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from app.runtime.version import VERSION
from tools.documents import ROOT

LEFT_OUT = {
    ".git",
    ".venv",
    ".local",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".ci",
    "build",
    "dist",
}
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def sources(folder: Path) -> Iterator[str]:
    """The files of a checkout, by their paths below it."""
    for path, folders, files in os.walk(folder):
        made = {"__pycache__", "secrets"}
        if Path(path) == folder:
            made |= LEFT_OUT | {".env"} | {name for name in folders if name.endswith(".egg-info")}
        folders[:] = set(folders) - made  # which other programs may change meanwhile: they are not looked into
        yield from ((Path(path) / name).relative_to(folder).as_posix() for name in files if name not in made)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that nothing is built into the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in sources(ROOT):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    run(source, sys.executable, "-c", code)
    return source / "dist" / f"iot_stream-{VERSION}.tar.gz"


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as an installation without a wheel does."""
    directory = tmp_path_factory.mktemp("wheel")
    words = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run(directory, sys.executable, "-m", "pip", *words, str(sdist))
    (made,) = directory.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a fresh environment, which has the wheel, and the packages of this one."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory, symlinks=True)
    site = directory / "lib" / PYTHON / "site-packages"
    python = str(directory / "bin" / "python")
    words = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(directory, sys.executable, "-m", "pip", "--python", python, *words, str(wheel))
    here = Path(sys.prefix) / "lib" / PYTHON / "site-packages"
    (site / "packages.pth").write_text(f"{here}\n")  # the folder alone: its own .pth, which leads to ROOT, is not read
    return directory / "bin"


def run(directory: Path, *words: str, **environment: str) -> str:
    """What a command says, in `directory` and without settings. Fails the test when the command fails."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("IOT_", "PYTHONPATH", "PIP_"))}
    done = subprocess.run(
        words, cwd=directory, env=plain | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_source_distribution_has_every_file(sdist: Path, source: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert "init.sql" in names
    assert set(sources(ROOT)) - names == set()


def test_the_wheel_has_every_file_of_the_package_and_init_sql(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("app/postgres/schema/init.sql") == (ROOT / "init.sql").read_bytes()
    assert {name for name in sources(ROOT) if name.startswith("app/")} - names == set()
    assert {name.partition("/")[0] for name in names} == {"app", f"iot_stream-{VERSION}.dist-info"}


def test_it_runs_without_the_source(installed: Path, tmp_path: Path) -> None:
    python = str(installed / "python")
    place = run(tmp_path, python, "-c", "import app; print(app.__file__)").strip()
    assert Path(place).is_relative_to(installed.parent)
    program = str(installed / "iot-stream")
    assert run(tmp_path, program, "--version") == f"iot-stream {VERSION}\n"
    assert "docs/README.md of the source" in run(tmp_path, program, "--help")
    assert "CREATE TABLE" in run(tmp_path, program, "schema", "sql")
    code = "from app.local.servers.kafka_jars import POM; from app.postgres.schema.init_sql import INIT_SQL as s; "
    assert run(tmp_path, python, "-c", f"{code}print(POM.exists(), s.exists(), s.name)") == "True True init.sql\n"


@pytest.mark.integration
def test_it_sets_up_a_database(installed: Path, database: str, tmp_path: Path) -> None:
    program = str(installed / "iot-stream")
    said = run(tmp_path, program, "db", "init", IOT_DATABASE_URL=database)
    assert said.splitlines()[0] == "applied init.sql"
    run(tmp_path, program, "db", "status", IOT_DATABASE_URL=database)
    run(tmp_path, program, "schema", "check", IOT_DATABASE_URL=database)
