"""The mask for texts that leave the machine: what is known as a secret, and what looks like one."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings import Settings
from app.settings.resolved.secret_values import mask


def planted(number: int) -> str:
    return f'Pl4nted-{number:03}-é"x'


def test_every_secret_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    secrets, values = list[str](), dict[str, Any]()
    for number, (name, field) in enumerate(Settings.model_fields.items()):
        secret = planted(number)
        if name.endswith(("password_file", "secret_file", "token_file", "secret_key_file")):
            (tmp_path / name).write_text(secret + "\n")
            values[name] = tmp_path / name
        elif "SecretStr" in str(field.annotation):
            values[name] = SecretStr(f"https://u:{secret}@host/p?token=q{secret}" if name.endswith("_url") else secret)
        else:
            continue
        secrets.append(secret)
    assert len(secrets) > 15
    text = mask(Settings.model_construct(**values))(f"said {' and '.join(secrets)}, and {secrets[3]!r}")
    assert "Pl4nted" not in text
    assert text.startswith("said *** and ***")


def test_secrets_of_files_and_of_other_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "Pl4nted-aws")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api=Pl4nted-otel,b=2")
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://guest:Pl4nted%2Famqp@rabbit/")  # not a secret
    (tmp_path / ".env").write_text("MY_API_TOKEN=Pl4nted-env\n")
    (tmp_path / "iot-stream.toml").write_text('[sinks.a]\nkind = "feed"\nfeed_token = "Pl4nted-toml"\n')
    text = " ".join(("Pl4nted-aws", "Pl4nted-otel", "Pl4nted%2Famqp", "Pl4nted/amqp", "Pl4nted-env", "Pl4nted-toml"))
    assert mask(Settings.model_construct())(text) == " ".join(["***"] * 6)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://iot:hunter2x@db/iot", "postgresql://iot:***@db/iot"),
        ("Authorization: Bearer abc.DEF-123", "Authorization: Bearer ***"),
        ("password=hunter2x next", "password=*** next"),
        ('{"token": "hunter2x", "n": 1}', '{"token": "***", "n": 1}'),
        ("offset 17 of iot-stream-3, user alice", "offset 17 of iot-stream-3, user alice"),
        ("http://127.0.0.1:9000/metrics", "http://127.0.0.1:9000/metrics"),
    ],
)
def test_what_looks_like_one(text: str, masked: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert mask(Settings.model_construct())(text) == masked


def test_more_of_them_and_short_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_TOKEN", "true")
    assert mask(Settings.model_construct(), ["abcd", "ab"])("abcd ab true") == "*** ab true"
