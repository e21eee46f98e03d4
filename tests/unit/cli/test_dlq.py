"""Arguments of `iot-stream dlq` that are wrong: exit code 2, the option named, and no server asked."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import build


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", "--reason", "bad_jason"], "--reason"),
        (["ls", "--stage", "nowhere"], "--stage"),
        (["ls", "--since", "yesterday"], "--since"),
        (["ls", "--since", "2026-11-21T09:00:00"], "2026-11-21T09:00:00Z"),
        (["ls", "--since", "1h", "--until", "2h"], "--until"),
        (["ls", "--offset", "3:9-1"], "--offset"),
        (["ls", "--partition", "-1"], "--partition"),
        (["ls", "--user", "\udcff"], "UTF-8"),
        (["show", "three"], "--offset"),
        (["show", "--limit", "0"], "--limit"),
        (["replay", "--to", "nowhere"], "--to"),
        (["replay", "--set", "battery"], "FIELD=VALUE"),
        (["replay", "--fix", "/no/such/file"], "--fix"),
        (["replay", "--rate", "0"], "--rate"),
        (["replay", "--arrival", "later"], "--arrival"),
        (["purge"], "--until"),
        (["purge", "--all", "--until", "1d"], "--all"),
        (["purge", "--before", "3"], "--before"),
        (["purge", "--before", "3:1-5"], "--before"),
        (["import"], "FILE"),
        (["import", "x", "--from-line", "0"], "--from-line"),
        (["delete"], "delete"),
    ],
)
def test_a_wrong_argument_is_named(words: list[str], said: str) -> None:
    done = CliRunner().invoke(build("dlq"), ["dlq", *words], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize("patch", ["{}", '[{"op":"add","path":"/a"}]', "[", '[{"op":"add","path":"a","value":1}]'])
def test_a_wrong_patch_is_named(patch: str, tmp_path: Path) -> None:
    file = tmp_path / "fix.json"
    file.write_text(patch)
    done = CliRunner().invoke(build("dlq"), ["dlq", "replay", "--fix", str(file)], env={"COLUMNS": "200"})
    assert (done.exit_code, "--fix" in done.output) == (2, True)
