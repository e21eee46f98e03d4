"""Which broker, account and database the options of `iot-stream load` come to."""

import resource
from pathlib import Path

import pytest
import typer

from app.cli.load.load import _writable
from app.cli.load.target import AccountOptions, LoadTarget, LoadTls, open_files, target
from app.errors import PermanentError

NOBODY = AccountOptions(None, None, None)
PLAIN = LoadTls(False, None, None, None)
URL = "postgresql://iot@db/iot"


@pytest.fixture(autouse=True)
def _no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HOST", "PORT", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"IOT_MQTT_{name}", raising=False)
    monkeypatch.delenv("IOT_DATABASE_URL", raising=False)


def of(
    host: str | None = "broker",
    port: int | None = None,
    who: AccountOptions = NOBODY,
    tls: LoadTls = PLAIN,
    url: str | None = None,
) -> LoadTarget:
    return target((host, port), who, tls, url, Path("nowhere"))


def test_a_database_means_an_account_for_each_user() -> None:
    found = of(url=URL)
    assert (found.broker.host, found.broker.port, found.broker.username) == ("broker", 1883, None)
    assert found.accounts
    assert found.database
    assert found.database.database_url.get_secret_value() == URL


def test_an_account_means_none_for_the_users(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    found = of(who=AccountOptions("op", tmp_path / "password", None), url=URL)
    assert (found.broker.username, found.broker.password, found.accounts) == ("op", "secret", False)
    assert "secret" not in repr(found.broker)


def test_the_settings_count_where_no_option_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOST", "here"), ("PORT", "1999"), ("USERNAME", "op"), ("PASSWORD", "pw")):
        monkeypatch.setenv(f"IOT_MQTT_{name}", value)
    monkeypatch.setenv("IOT_DATABASE_URL", URL)
    found = of(host=None)
    assert (found.broker.host, found.broker.port) == ("here", 1999)
    assert (found.broker.username, found.broker.password, found.accounts) == ("op", "pw", False)
    assert found.database
    assert of(host=None, url=URL).accounts, "--database-url makes accounts, whatever the settings' account is"


def test_tls_has_a_port_of_its_own() -> None:
    found = of(tls=LoadTls(True, None, None, None))
    assert found.broker.tls
    assert found.broker.port == 8883
    assert of(port=1, tls=LoadTls(True, None, None, None)).broker.port == 1


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"host": "a/b"}, "--host"),
        ({"url": "mysql://x"}, "--database-url"),
        ({"who": AccountOptions(None, None, "alice")}, "--user"),
        ({"who": AccountOptions("op", None, "a/b")}, "--user"),
        ({"who": AccountOptions(None, Path("x"), None)}, "--password-file"),
        ({"who": AccountOptions("op", Path("missing"), None)}, "--password-file"),
        ({"tls": LoadTls(True, Path("missing"), None, None)}, "--tls"),
    ],
)
def test_a_wrong_option_is_named(more: dict[str, object], option: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        of(**more)  # type: ignore[arg-type]
    assert caught.value.param_hint == option


def test_what_cannot_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "file", Path("-")):
        with pytest.raises(typer.BadParameter):
            _writable(path if path != Path("-") else tmp_path / "no" / "-", "--report")
    assert _writable(tmp_path / "new", "--report") == tmp_path / "new"
    assert _writable(Path("-"), "--json") == Path("-")


def test_more_connections_than_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, 4096))
    raised = list[tuple[int, int]]()
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: raised.append(limits))
    open_files(100)
    open_files(2000)
    assert raised == [(2064, 4096)]
    with pytest.raises(PermanentError, match="ulimit -n"):
        open_files(5000)
