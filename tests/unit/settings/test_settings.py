"""Settings: where they come from, and one message for all that is wrong with them."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from app.errors import SettingsError
from app.settings import Settings, load
from tests.secured import Certificates

SECRET = "hunter2-not-for-logs"  # not a secret


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.upper().startswith("IOT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_valid() -> None:
    settings = load()
    assert settings.group_id == "iot-worker"
    assert settings.kafka_topic == "iot-stream"
    assert settings.metrics_port == 9000


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not (field.description or "").strip()] == []


def test_environment_over_dotenv_over_toml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("iot-stream.toml").write_text("batch_max_rows = 1\nrules_poll = 1.5\ncopy_min_rows = 3\n")
    Path(".env").write_text("IOT_BATCH_MAX_ROWS=10\nIOT_RULES_POLL=2.5\nSOMETHING_ELSE=x\n")
    monkeypatch.setenv("IOT_BATCH_MAX_ROWS", "100")
    settings = load()
    assert (settings.batch_max_rows, settings.rules_poll, settings.copy_min_rows) == (100, 2.5, 3)
    other = tmp_path / "other.toml"
    other.write_text("copy_min_rows = 4\n")
    monkeypatch.setenv("IOT_SETTINGS_FILE", str(other))
    assert load().copy_min_rows == 4


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_BATCH_MAX_ROWS", "")
    assert load().batch_max_rows == 5000


def test_lists_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_BRIDGE_FILTERS", '["a/#", "b/+"]')
    assert load().bridge_filters == ("a/#", "b/+")


WRONG = {
    "IOT_APP": "Not A Name",
    "IOT_KAFKA_PARTITIONS": "0",
    "IOT_BATCH_MAX_ROWS": "many",
    "IOT_MQTT_PORT": "70000",
    "IOT_METRICS_PORT": "-1",
    "IOT_RULES_POLL": "-1",
    "IOT_MQTT_TLS": "perhaps",
    "IOT_LOG_LEVEL": "LOUD",
    "IOT_LOG_FORMAT": "xml",
}


def test_all_wrong_values_are_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WRONG.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load()
    lines = str(raised.value).splitlines()
    assert lines[0] == "wrong settings:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == sorted(WRONG, key=_place)
    assert all(line.split(":", 1)[1].strip() for line in lines[1:])


def _place(name: str) -> int:
    return list(Settings.model_fields).index(name.removeprefix("IOT_").lower())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"IOT_BREAKER_RESET_MIN": "9", "IOT_BREAKER_RESET_MAX": "3"},
            "IOT_BREAKER_RESET_MAX: must not be below IOT_BREAKER_RESET_MIN",
        ),
        ({"IOT_MQTT_TLS": "1", "IOT_MQTT_CA_FILE": "/no/such/file"}, "IOT_MQTT_CA_FILE: no such file: /no/such/file"),
    ],
)
def test_values_that_do_not_fit_together(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=words):
        load()


def test_all_values_that_do_not_fit_together_are_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IOT_DATABASE_PASSWORD_FILE", "IOT_MQTT_PASSWORD_FILE", "IOT_MQTT_CA_FILE"):
        monkeypatch.setenv(name, "/no/such/file")
    monkeypatch.setenv("IOT_BRIDGE_FILTERS", "a/#")
    monkeypatch.setenv("IOT_MQTT_PORT", "x")
    monkeypatch.setenv("IOT_BREAKER_RESET_MIN", "100")
    with pytest.raises(SettingsError) as raised:
        load()
    lines = str(raised.value).splitlines()[1:]
    files = ["IOT_DATABASE_PASSWORD_FILE", "IOT_MQTT_PASSWORD_FILE", "IOT_MQTT_CA_FILE"]
    names = sorted([*files, "IOT_BRIDGE_FILTERS", "IOT_MQTT_PORT", "IOT_BREAKER_RESET_MAX"], key=_place)
    assert [line.split(":")[0].strip() for line in lines] == names


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA and what it has signed."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_all_that_is_wrong_with_certificates_and_accounts_is_in_one_message(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    text = certificates.ca.with_name("text.pem")
    text.write_text("no certificate")
    for name, value in {
        "IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "IOT_KAFKA_CA_FILE": str(text),
        "IOT_KAFKA_CERTIFICATE_FILE": str(certificates.client),
        "IOT_KAFKA_KEY_FILE": str(certificates.strange_key),
        "IOT_DATABASE_CA_FILE": str(certificates.ca),
        "IOT_DATABASE_KEY_FILE": str(certificates.client_key),
        "IOT_MQTT_TLS": "true",
        "IOT_MQTT_CERTIFICATE_FILE": str(certificates.client),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load()
    said = dict(line.strip().split(": ", 1) for line in str(raised.value).splitlines()[1:])
    assert set(said) == {
        "IOT_KAFKA_CA_FILE", "IOT_KAFKA_KEY_FILE", "IOT_KAFKA_USERNAME", "IOT_KAFKA_PASSWORD_FILE",
        "IOT_DATABASE_CA_FILE", "IOT_DATABASE_KEY_FILE", "IOT_MQTT_KEY_FILE",
    }  # fmt: skip
    assert "holds no CA certificate" in said["IOT_KAFKA_CA_FILE"]
    assert "no certificate and its key" in said["IOT_KAFKA_KEY_FILE"]
    assert "set IOT_DATABASE_TLS to true" in said["IOT_DATABASE_CA_FILE"]
    assert "set IOT_DATABASE_CERTIFICATE_FILE" in said["IOT_DATABASE_KEY_FILE"]


def test_a_key_that_asks_for_a_password_is_refused_and_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    monkeypatch.setenv("IOT_MQTT_TLS", "true")
    monkeypatch.setenv("IOT_MQTT_CERTIFICATE_FILE", str(certificates.client))
    monkeypatch.setenv("IOT_MQTT_KEY_FILE", str(certificates.encrypted_key))
    with pytest.raises(SettingsError, match="IOT_MQTT_KEY_FILE: the key must not be encrypted"):
        load()


def test_a_certificate_with_its_key_in_one_file(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    monkeypatch.setenv("IOT_DATABASE_TLS", "true")
    both = certificates.together(certificates.client, certificates.client_key)
    monkeypatch.setenv("IOT_DATABASE_CERTIFICATE_FILE", str(both))
    assert load().database_certificate_file == both


def test_a_password_is_not_sent_readably(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN", "USERNAME": "u"}.items():
        monkeypatch.setenv(f"IOT_KAFKA_{name}", value)
    monkeypatch.setenv("IOT_KAFKA_PASSWORD", SECRET)
    with pytest.raises(SettingsError, match="IOT_KAFKA_SASL_MECHANISM: PLAIN shows the password"):
        load()


def test_a_file_that_is_no_toml_is_a_wrong_setting() -> None:
    Path("iot-stream.toml").write_text("batch_max_rows = = 1\n")
    with pytest.raises(SettingsError, match=r"iot-stream\.toml"):
        load()


def test_a_list_that_is_no_json_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_BRIDGE_FILTERS", "a/#, b/+")
    with pytest.raises(SettingsError, match="IOT_BRIDGE_FILTERS"):
        load()


def test_a_missing_file_named_by_the_environment_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_SETTINGS_FILE", "/no/such/file.toml")
    with pytest.raises(SettingsError, match=r"IOT_SETTINGS_FILE: no such file: /no/such/file\.toml"):
        load()


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_DATABASE_URL", f"postgresql://iot:{SECRET}@db/iot")
    monkeypatch.setenv("IOT_MQTT_PASSWORD", SECRET)
    settings = load()
    assert settings.database_url.get_secret_value().count(SECRET) == 1
    assert settings.mqtt_secret == SECRET
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in shown
    monkeypatch.setenv("IOT_BATCH_MAX_ROWS", "many")
    with pytest.raises(SettingsError) as raised:
        load()
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_secrets_are_the_secrets() -> None:
    """A new setting whose name speaks of a secret must not be plain text."""
    telling = [name for name in Settings.model_fields if "password" in name or "secret" in name or name.endswith("url")]
    plain = [name for name in telling if "SecretStr" not in str(Settings.model_fields[name].annotation)]
    assert [name for name in plain if not name.endswith("_file")] == []


@pytest.mark.parametrize("url", ["ftp://h/x", "h/x", "https:///x", "https://h/a b"])
def test_a_webhook_is_a_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("IOT_WEBHOOK_URL", url)
    with pytest.raises(SettingsError, match="IOT_WEBHOOK_URL: give a URL such as https://") as raised:
        load()
    assert url not in str(raised.value)
    monkeypatch.setenv("IOT_WEBHOOK_URL", "https://hooks.example.com:8443/T0/token?x=1")
    assert "T0/token" not in repr(load())


def test_passwords_come_from_files_too(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    settings = Settings(database_password_file=file, mqtt_password_file=file, mqtt_password=SecretStr("other"))
    assert (settings.database_password, settings.mqtt_secret) == (SECRET, SECRET)
    assert Settings().database_password is None
    assert Settings().mqtt_secret is None


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().batch_max_rows = 1  # type: ignore[misc]


@pytest.mark.parametrize("sign", "?#/[]@% ")
@pytest.mark.parametrize("name", ["IOT_DATABASE_URL", "IOT_WEBHOOK_URL"])
def test_a_password_that_takes_a_url_apart_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, sign: str
) -> None:
    scheme = "postgresql" if "DATABASE" in name else "https"
    monkeypatch.setenv(name, f"{scheme}://iot:Zx9{sign}{SECRET}@db.example.com:5432/iot")
    with pytest.raises(SettingsError, match=name) as raised:
        load()
    assert SECRET not in str(raised.value)
    assert "Zx9" not in str(raised.value)
    assert "percent-encode" in str(raised.value) or name == "IOT_WEBHOOK_URL"


def test_a_password_is_what_it_was_before_it_was_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    written, taken = "x:%23%2F%3f%40%5B%5D%25%20\u00e4", "x%3A%23%2F%3F%40%5B%5D%25%20%C3%A4"
    monkeypatch.setenv("IOT_DATABASE_URL", f"postgres://iot:{written}@db/iot?sslmode=require")
    assert load().database_url.get_secret_value() == f"postgresql://iot:{taken}@db/iot?sslmode=require"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf \n", "the file is empty"),
        ("s\u00e4cret".encode("utf-16"), "not UTF-8"),
        (None, "no such file"),
    ],
)
def test_a_file_with_a_secret_is_looked_at_when_a_program_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / SECRET  # somebody may write the secret in place of the path
    if content is not None:
        file.write_bytes(content)
    for name in ("IOT_DATABASE_PASSWORD_FILE", "IOT_MQTT_PASSWORD_FILE", "IOT_WEBHOOK_SECRET_FILE"):
        monkeypatch.setenv(name, str(file))
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value).count(words) == 3
    assert SECRET not in str(raised.value)


def test_byte_order_marks_are_no_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\r\n", encoding="utf-8-sig")
    Path(".env").write_text(f"IOT_RULES_POLL=7\nIOT_MQTT_PASSWORD_FILE={secret}\n", encoding="utf-8-sig")
    Path("iot-stream.toml").write_text("copy_min_rows = 4\n", encoding="utf-8-sig")
    settings = load()
    assert (settings.rules_poll, settings.copy_min_rows, settings.mqtt_secret) == (7.0, 4, SECRET)


@pytest.mark.parametrize("file", [".env", "iot-stream.toml"])
def test_a_file_of_another_encoding_is_named(file: str) -> None:
    Path(file).write_text("IOT_RULES_POLL=7\n", encoding="utf-16")
    with pytest.raises(SettingsError, match=f"{file} is not"):
        load()


WRONG_ADDRESSES = {
    "IOT_KAFKA_BROKER": [
        "PLAINTEXT://kafka:9092", "kafka:word", "kafka:99999", "kafka:0", ",", "::1:9092", "[::1", "[::g]:1", "a:1,b:",
        "user:secret@kafka:9092", "a..b:9092", "300.1.1.1:9092", "kafka:9092/path",
    ],
    "IOT_MQTT_HOST": ["mqtt://broker", "broker:1883", "a b", "[::1]:1883", "me@broker", "broker/x", "*", "x" * 70],
    "IOT_METRICS_HOST": ["http://0.0.0.0", "0.0.0.0:9000", "*", "0.0.0.0.0"],
    "IOT_DATABASE_URL": [
        "jdbc:postgresql://db/iot", "postgresql+asyncpg://iot@db/iot", "host=db dbname=iot", "mysql://iot@db/iot",
        "postgresql://iot@db:pg/iot", "postgresql://iot@db:70000/iot", "postgresql://iot@db/iot?sslmode=sometimes",
        "postgresql://iot@db/iot?sslrootcert=/no/such/file", "postgresql://iot@db/iot?host", "postgresql://iot@,/iot",
        "postgresql:///iot?host=db&port=word", "postgresql://iot@a,b/iot?port=1,2,3", "postgresql://%FF@db/iot",
        "postgresql://iot:a%00b@db/iot", "postgresql://iot@[::1/iot", "db.example.com",
    ],
    "IOT_WEBHOOK_URL": ["https://h:99999/x", "https://h:port/x", "hooks.example.com/x", "https://[::1/x", "https://h/\tx"],
    "IOT_BRIDGE_FILTERS": ["[]", '["users/#", ""]', "users/#"],
    "IOT_RULES_POLL": ["inf", "nan"],
    "IOT_BREAKER_PROBE": ["inf", "nan"],
    "IOT_MQTT_PORT": ["0", "65536", "mqtt"],
    "IOT_METRICS_PORT": ["-1", "65536", "9000/tcp"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, all_ in WRONG_ADDRESSES.items() for one in all_])
def test_a_wrong_address_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"\n  {name}: ") as raised:
        load()
    (line,) = str(raised.value).splitlines()[1:]
    assert len(value) < 8 or value not in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("kafka_broker", " a:1, b ,,[::1]:9093,", "a:1,b:9092,[::1]:9093"),
        ("kafka_broker", "[::1],my_kafka:9092", "[::1]:9092,my_kafka:9092"),
        ("mqtt_host", "[::1]", "::1"),
        ("mqtt_host", " fe80::1%eth0 ", "fe80::1%eth0"),
        ("mqtt_host", "m\u00fcller.example", "m\u00fcller.example"),
        ("metrics_host", "::", "::"),
        ("metrics_host", "localhost", "localhost"),
        ("database_url", "postgresql:///iot?host=/run/pg&port=1", "postgresql:///iot?host=/run/pg&port=1"),
        ("database_url", "postgresql://u@[::1]:1,h:2,/iot", "postgresql://u@[::1]:1,h:2/iot"),
        ("database_url", "postgresql://%2Frun%2Fpg/iot?user=me@corp", "postgresql://%2Frun%2Fpg/iot?user=me@corp"),
        ("database_url", "POSTGRES://h", "postgresql://h"),
        ("webhook_url", "http://u:p%40@[::1]:8/a?b=@#c", "http://u:p%40@[::1]:8/a?b=@#c"),
    ],
)
def test_addresses_as_people_write_them(monkeypatch: pytest.MonkeyPatch, name: str, value: str, taken: str) -> None:
    monkeypatch.setenv(f"IOT_{name.upper()}", value)
    found = getattr(load(), name)
    assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == taken
