"""What a setting may be: types of values, each with the check that says what would be right."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from app.core.presence.device_classes import DeviceClass
from app.errors import SettingsError
from app.runtime import addresses, database_url, tls
from app.settings import secret_files
from app.settings.schema_struct import named

# Which setting says that a connection is encrypted.
_SWITCHES = {"kafka": "kafka_security_protocol", "database": "database_tls", "mqtt": "mqtt_tls"}
_ENCRYPTED = ("SSL", "SASL_SSL", True)


def names(value: Any) -> Any:
    """`a,b` in the environment, a list in TOML, or the names of a table's entries, as a tuple."""
    if isinstance(value, str):
        return tuple(name for part in value.split(",") if (name := part.strip()))
    return tuple(value)


def _existing(path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise ValueError(f"no such file: {path}")
    return path


def _from_json(value: Any) -> Any:
    """A list in the environment is JSON; a list in TOML is a list already."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"give a JSON array: {error}") from None


def _filters(topics: tuple[str, ...]) -> tuple[str, ...]:
    if not topics or not all(topic.strip() for topic in topics):
        raise ValueError('give at least one topic filter, and no empty one, as ["users/#", "iot/#"]')
    return topics


def _classes(value: Any) -> Any:
    try:
        return msgspec.convert(_from_json(value), tuple[DeviceClass, ...])
    except msgspec.ValidationError as error:
        example = '[{"devices": "alice/truck-*", "offline_after": 300, "alert": true}]'
        raise ValueError(f"{error}; classes are for example {example}") from None


def _used(path: Path | None, info: ValidationInfo) -> Path | None:
    """A certificate that is never looked at would be taken for a certificate in use."""
    switch = _SWITCHES[_side(info)]
    if path is not None and info.data.get(switch, True) not in _ENCRYPTED:
        right = "SSL or SASL_SSL" if switch.startswith("kafka") else "true"
        raise ValueError(f"nothing is encrypted: set IOT_{switch.upper()} to {right}")
    return path


def _ca(path: Path | None) -> Path | None:
    if path is not None:
        tls.context(path)
    return path


def _fitting(path: Path | None, info: ValidationInfo) -> Path | None:
    """A key fits its certificate, and there is none without the other."""
    name = f"{(info.field_name or '').removesuffix('_key_file')}_certificate_file"
    if name not in info.data:  # the certificate is wrong itself
        return path
    certificate = info.data[name]
    if certificate is not None:
        tls.context(None, certificate, path)
    elif path is not None:
        raise ValueError(f"a key without its certificate: set IOT_{name.upper()}")
    return path


def _side(info: ValidationInfo) -> str:
    return (info.field_name or "").partition("_")[0]


def _asked_for(path: Path | None, info: ValidationInfo) -> Path | None:
    """Certificates are asked for where something is encrypted."""
    name = f"{_side(info)}_certificate_file"
    if path is not None:
        tls.context(path)
        if info.data.get(name, path) is None:
            raise ValueError(f"nothing is encrypted: set IOT_{name.upper()}")
    return path


def _http(url: SecretStr | None) -> SecretStr | None:
    return None if url is None else SecretStr(addresses.web(url.get_secret_value()))


def _database(url: SecretStr) -> SecretStr:
    return SecretStr(database_url.normal(url.get_secret_value()))


def _with_secret(path: Path | None) -> Path | None:
    if path is not None:
        secret_files.check(path)
    return path


def _schema(name: str) -> str:
    try:
        named(name)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return name


WebUrl = Annotated[SecretStr | None, AfterValidator(_http)]  # secret: the URL of a webhook often holds a token
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
Brokers = Annotated[str, AfterValidator(addresses.brokers)]
Host = Annotated[str, AfterValidator(addresses.host)]
ExistingFile = Annotated[Path | None, AfterValidator(_existing)]
SecretFile = Annotated[Path | None, AfterValidator(_with_secret)]
CaFile = Annotated[ExistingFile, AfterValidator(_ca), AfterValidator(_used)]
ExistingCaFile = Annotated[ExistingFile, AfterValidator(_ca)]  # of what a URL says is encrypted
CertificateFile = Annotated[ExistingFile, AfterValidator(_used)]
KeyFile = Annotated[ExistingFile, AfterValidator(_fitting), Field(validate_default=True)]
ClientCaFile = Annotated[ExistingFile, AfterValidator(_asked_for)]  # of what listens: who connects shows a certificate
Classes = Annotated[tuple[InstanceOf[DeviceClass], ...], NoDecode, BeforeValidator(_classes)]
Topics = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_from_json), AfterValidator(_filters)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(names)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
SchemaStruct = Annotated[str, AfterValidator(_schema)]
Port = Annotated[int, Field(ge=1, le=65535)]
