"""One frozen Settings: environment (prefix IOT_), `.env`, then a TOML file; all wrong values are named at once."""

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import SettingsError
from app.settings.database import DatabaseSettings
from app.settings.fleet import FleetSettings
from app.settings.gateways import GatewaySettings, GrpcSettings, HttpSettings, QuicSettings, TcpSettings
from app.settings.intake import IntakeSettings
from app.settings.kafka import KafkaSettings
from app.settings.mqtt import MqttSettings
from app.settings.names import strangers, warn_of_bare
from app.settings.notifier import NotifierSettings
from app.settings.operator import OperatorSettings
from app.settings.process import ProcessSettings
from app.settings.sinks.common import SinkSettings
from app.settings.sinks.feed import FeedSettings
from app.settings.sinks.grpc_push import GrpcPushSettings
from app.settings.sinks.influx import InfluxSettings
from app.settings.sinks.parquet import ParquetSettings
from app.settings.sinks.redis import RedisSettings
from app.settings.sources import ENCODING, ENV_FILE, Environment, Toml, toml_file
from app.settings.tracing import TracingSettings


class Settings(
    # Pydantic takes the fields of the last base first: read from the bottom up, this is the order in docs/settings.md.
    OperatorSettings,
    TracingSettings,
    ProcessSettings,
    GrpcPushSettings,
    FeedSettings,
    RedisSettings,
    InfluxSettings,
    ParquetSettings,
    SinkSettings,
    IntakeSettings,
    NotifierSettings,
    QuicSettings,
    GrpcSettings,
    TcpSettings,
    HttpSettings,
    GatewaySettings,
    MqttSettings,
    DatabaseSettings,
    KafkaSettings,
    FleetSettings,
    BaseSettings,
):
    """Everything that can be set. Times are seconds, sizes bytes, unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="IOT_",
        env_file=ENV_FILE,
        env_file_encoding=ENCODING,
        extra="ignore",  # what is unknown is named by load(), with the nearest name
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, of which the first that has a setting counts: arguments of Settings, environment, `.env`, TOML
        ($IOT_SETTINGS_FILE, default iot-stream.toml).
        """
        return init_settings, Environment(settings_cls), dotenv_settings, Toml(settings_cls, toml_file())


def load() -> Settings:
    """Read the settings, and warn of variables that are not read. Raises as `read` does."""
    settings = read()
    warn_of_bare(settings.model_fields_set, Settings.model_fields)
    return settings


def read() -> Settings:
    """The settings as environment, `.env` and TOML file are now. Raises SettingsError that names all that is wrong,
    names that are no settings too, and quotes no secret.
    """
    wrong = strangers(Settings.model_fields)  # first: a file that cannot be read is named here
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(problem["loc"][0]).upper()
            wrong.append(f"IOT_{name}: {problem['msg'].removeprefix('Value error, ')}")
    if wrong:
        raise SettingsError("\n  ".join(["wrong settings:", *wrong])) from None
    return settings
