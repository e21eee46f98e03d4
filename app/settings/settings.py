"""One frozen Settings: environment (prefix IOT_), `.env`, then a TOML file; all wrong values are named at once."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.core.schema.schema import Schema
from app.errors import SettingsError
from app.settings import secret_files
from app.settings.names import strangers, warn_of_bare
from app.settings.schema_struct import named
from app.settings.sources import ENCODING, ENV_FILE, Environment, Toml, toml_file
from app.settings.values import (
    Brokers,
    CaFile,
    CertificateFile,
    Classes,
    DatabaseUrl,
    Host,
    KeyFile,
    NonNegativeInt,
    Port,
    PositiveFloat,
    PositiveInt,
    Rate,
    SchemaStruct,
    SecretFile,
    Topics,
    WebUrl,
)


class Settings(BaseSettings):
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

    app: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = Field(
        "worker", description="name of the fleet: consumer group and state changelog are named after it"
    )

    schema_struct: SchemaStruct = Field(
        "app.telemetry:Telemetry", description="what a reading measures, `module:Struct`: docs/adapting.md"
    )

    kafka_broker: Brokers = Field(
        "127.0.0.1:9092", description="bootstrap servers, host:port[,host:port]; IPv6 as [::1]:9092"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL: encrypted; SASL: with an account"
    )
    kafka_ca_file: CaFile = Field(None, description="CA certificates instead of the system's, PEM")
    kafka_certificate_file: CertificateFile = Field(
        None, description="own certificate, if the brokers ask for one, PEM"
    )
    kafka_key_file: KeyFile = Field(None, description="its key; default: in the file of the certificate")
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="how the password is shown; PLAIN with SASL_SSL alone"
    )
    kafka_username: str | None = Field(None, description="account, with SASL", validate_default=True)
    kafka_password: SecretStr | None = Field(None, description="its password; never logged")
    kafka_password_file: SecretFile = Field(None, description="file that holds the password", validate_default=True)
    kafka_topic: str = Field("iot-stream", description="input topic")
    kafka_dlq_topic: str = Field("iot-stream-dlq", description="dead letters")
    kafka_alerts_topic: str = Field("iot-alerts", description="outbox of alert events")
    kafka_partitions: PositiveInt = Field(12, description="partitions of the input topic and of the state changelog")
    kafka_replication_factor: PositiveInt = Field(1, description="replicas of the topics `iot-stream topics` makes")
    kafka_session_timeout: PositiveFloat = Field(10.0, description="a worker silent for this long loses its partitions")
    kafka_instance_id: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$")] = Field(
        None,
        description="name of this worker alone: back within the session timeout, it has its partitions back",
    )
    kafka_commit_interval: PositiveFloat = Field(1.0, description="how often offsets are committed")
    kafka_max_fetch_bytes: PositiveInt = Field(4 << 20, description="fetched at once per partition")

    database_url: DatabaseUrl = Field(
        SecretStr("postgresql://iot@127.0.0.1:5432/iot"),
        description="PostgreSQL or TimescaleDB; a password in it is percent-encoded; never logged",
    )
    database_password_file: SecretFile = Field(None, description="file that holds the password, instead of the URL")
    database_tls: bool = Field(
        False, description="TLS to the database, certificate and name verified; false: what sslmode of the URL says"
    )
    database_ca_file: CaFile = Field(None, description="CA certificates instead of the system's, PEM")
    database_certificate_file: CertificateFile = Field(None, description="own certificate, if the database asks for it")
    database_key_file: KeyFile = Field(None, description="its key; default: in the file of the certificate")
    batch_max_rows: PositiveInt = Field(5000, description="most records in one batch")
    batch_max_bytes: PositiveInt = Field(1 << 20, description="most payload bytes in one batch")
    buffer_max_bytes: PositiveInt = Field(
        64 << 20, description="most memory fetched and not yet stored records may take"
    )
    copy_min_rows: PositiveInt = Field(500, description="batches from this size on are stored with COPY")
    writes_in_flight: PositiveInt = Field(3, description="database writes under way at once, one per partition")
    database_timeout: PositiveFloat = Field(60.0, description="longest a statement may take")
    database_statement_cache: bool = Field(
        True, description="keep prepared statements and temp tables; false behind PgBouncer in transaction mode"
    )
    breaker_failures: PositiveInt = Field(5, description="consecutive failures that open the circuit breaker")
    breaker_reset_min: PositiveFloat = Field(5.0, description="first wait of the open breaker")
    breaker_reset_max: PositiveFloat = Field(
        60.0, validate_default=True, description="longest wait of the open breaker"
    )
    breaker_probe: Annotated[float, Field(ge=0)] = Field(
        1.0, description="how often an open breaker asks whether the database is back; 0: only its wait ends"
    )
    late_after: PositiveFloat | None = Field(
        None, description="rows older than this are stored apart; default: what the columnstore policy leaves alone"
    )
    late_batch_rows: PositiveInt = Field(1000, description="most late rows in one transaction")

    mqtt_host: Host = Field("127.0.0.1", description="MQTT broker, without a scheme or a port")
    mqtt_port: Port = Field(1883, description="MQTT broker's port")
    mqtt_username: str | None = Field(None, description="account of the bridge and the notifier")
    mqtt_password: SecretStr | None = Field(None, description="its password; never logged")
    mqtt_password_file: SecretFile = Field(None, description="file that holds the password")
    mqtt_tls: bool = Field(False, description="TLS to the MQTT broker, certificate and name verified")
    mqtt_ca_file: CaFile = Field(None, description="CA certificates instead of the system's, PEM")
    mqtt_certificate_file: CertificateFile = Field(None, description="own certificate, if the broker asks for one, PEM")
    mqtt_key_file: KeyFile = Field(None, description="its key; default: in the file of the certificate")
    mqtt_guarded_ids: bool = Field(
        True,
        description="client ids and share end in a digest of the MQTT password: no other account can take them; "
        "false where the broker binds ids to accounts, see [users.md](users.md#client-ids)",
    )
    bridge_client_id: str = Field("iot-bridge-1", description="client id, and so the session, of this bridge")
    bridge_share: str = Field(
        "-", description="shared subscription all bridges join, with EMQX; `-`: none, one bridge has its filters alone"
    )
    bridge_in_flight: Annotated[int, Field(ge=1, le=65535)] = Field(
        20000, description="messages taken from the broker and not yet acknowledged (MQTT 5 receive maximum)"
    )
    bridge_filters: Topics = Field(
        ("users/#", "iot/#"), description="topics the bridge takes; JSON array; own outputs below them are skipped"
    )
    bridge_packet_max_bytes: PositiveInt = Field(
        2 << 20, description="largest MQTT packet taken; the broker withholds larger ones from the bridge"
    )
    bridge_buffer_bytes: PositiveInt = Field(64 << 20, description="payload bytes held before reading pauses")
    bridge_session_expiry: PositiveInt = Field(604800, description="how long the broker keeps the bridge's session")
    ingress_user_messages: Rate = Field(
        0.0,
        description="messages a second a user may send through the bridge, [users.md](users.md#limits); 0: no limit",
    )
    ingress_user_bytes: Rate = Field(0.0, description="payload bytes a second of a user; 0: no limit")
    ingress_device_messages: Rate = Field(0.0, description="messages a second of a device; 0: no limit")
    ingress_device_bytes: Rate = Field(0.0, description="payload bytes a second of a device; 0: no limit")
    ingress_burst: PositiveFloat = Field(10.0, description="seconds' worth of these limits that may come at once")
    notifier_client_id: str = Field("iot-notifier-1", description="client id of the notifier")
    alert_delayed_after: PositiveFloat = Field(
        60.0, description="an alert published this long after its event time says so (`delayed`)"
    )
    alerts_per_minute: Annotated[int, Field(ge=0)] = Field(
        60,
        description="most messages to a user in a minute, answers half of it; more come as a digest; 0: no limit",
    )
    webhook_url: WebUrl = Field(None, description="the notifier posts every alert event there too; never logged")
    webhook_secret: SecretStr | None = Field(None, description="key of its signature (HMAC-SHA256); never logged")
    webhook_secret_file: SecretFile = Field(None, description="file that holds the key")
    webhook_timeout: PositiveFloat = Field(10.0, description="longest the webhook may take to answer")
    webhook_tries: PositiveInt = Field(
        12, description="an event it does not take in so many tries, taking others in between, is left out (6 minutes)"
    )

    time_future_max: PositiveFloat = Field(300.0, description="a reading further ahead of its arrival is a dead letter")
    time_past_max: PositiveFloat = Field(90 * 86400.0, description="a reading older at its arrival is a dead letter")
    clock_back_readings: NonNegativeInt = Field(
        5,
        description="after so many live readings in a row with old times a device's clock counts as set back; 0: never",
    )
    payload_max_bytes: PositiveInt = Field(1 << 20, description="larger payloads are dead letters")
    payload_max_depth: PositiveInt = Field(32, description="deeper nesting is a dead letter")
    rules_poll: PositiveFloat = Field(1.0, description="how often user_configs is asked for changes")

    offline_after: Annotated[float, Field(ge=0)] = Field(
        5.0, description="a device or node silent for so long is offline; 0: not watched"
    )
    offline_classes: Classes = Field(
        (), description="other times for some; JSON array, see [presence.md](presence.md#classes-of-devices)"
    )
    offline_poll: PositiveFloat = Field(1.0, description="how often silence is looked for")
    offline_grace: Annotated[float, Field(ge=0)] = Field(
        15.0, description="nobody is taken for silent for so long after a start, a rebalance or a lag"
    )
    offline_lag_max: PositiveFloat = Field(
        4.0, description="while a partition is further behind, nobody is taken for silent"
    )
    offline_mass_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3,
        description="more of a user's or of all devices silent at once are one alert, and none of their own; 1: never",
    )
    offline_mass_hold: PositiveFloat = Field(
        600.0, description="for so long none of them is reported on its own, if they do not come back before"
    )
    devices_in_memory: PositiveInt = Field(
        100_000, description="devices whose state a worker keeps in memory; of all others it is on its disk"
    )
    last_seen_every: PositiveFloat = Field(60.0, description="how often last_seen of what stays online is written")

    dead_letters_in_a_row: Annotated[int, Field(ge=0)] = Field(
        1000,
        description="more of them in a row stop the worker; 0: no limit",
    )
    dead_letters_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="more than this share of a window stop the worker, counted alike; 1: no limit"
    )
    dead_letters_window: PositiveInt = Field(10_000, description="records the share is of")
    dead_letters_user_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1,
        description="of either limit one user counts for at most, if there are others; 1: as much as all",
    )

    state_dir: Path = Field(
        Path(".local/state"), description="RocksDB tables of this worker; not shared between workers"
    )
    watchdog_seconds: PositiveFloat = Field(
        120.0, description="an offset stuck this long with no work ends the process"
    )
    shutdown_timeout: PositiveFloat = Field(8.0, description="longest a stop or rebalance waits for running writes")

    metrics_host: Host = Field("127.0.0.1", description="address of /metrics, /live and /ready; all: 0.0.0.0 or ::")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(9000, description="its port; 0 takes a free one")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severe level logged")
    log_format: Literal["auto", "json", "human"] = Field("auto", description="auto: human on a terminal, else json")

    # One value at a time and not the whole model: that is not looked at once any value is wrong.
    @field_validator("kafka_sasl_mechanism")
    @classmethod
    def _no_readable_password(cls, value: str, info: ValidationInfo) -> str:
        if value == "PLAIN" and info.data.get("kafka_security_protocol") == "SASL_PLAINTEXT":
            raise ValueError("PLAIN shows the password to all on the way: set IOT_KAFKA_SECURITY_PROTOCOL to SASL_SSL")
        return value

    @field_validator("kafka_username", "kafka_password_file")
    @classmethod
    def _there_with_sasl(cls, value: str | Path | None, info: ValidationInfo) -> str | Path | None:
        protocol = info.data.get("kafka_security_protocol", "")
        if protocol.startswith("SASL") and not (value or info.data.get("kafka_password")):
            raise ValueError(f"{protocol} needs one")
        return value

    @field_validator("breaker_reset_max")
    @classmethod
    def _not_below_the_first_wait(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("breaker_reset_min", 0.0):
            raise ValueError("must not be below IOT_BREAKER_RESET_MIN")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over `.env` over TOML ($IOT_SETTINGS_FILE, default iot-stream.toml)."""
        return init_settings, Environment(settings_cls), dotenv_settings, Toml(settings_cls, toml_file())

    @property
    def group_id(self) -> str:
        """Consumer group, Faust app id and prefix of the changelog `iot-<app>-state-changelog`."""
        return f"iot-{self.app}"

    @property
    def telemetry_schema(self) -> Schema:
        """The columns of a reading, worked out of the struct that `schema_struct` names."""
        return named(self.schema_struct)

    @property
    def database_password(self) -> str | None:
        """From the password file, else None: asyncpg then takes it from the URL."""
        return secret_files.read(self.database_password_file) if self.database_password_file else None

    @property
    def kafka_secret(self) -> str | None:
        """The Kafka password, from the file when one is named."""
        return _secret(self.kafka_password_file, self.kafka_password)

    @property
    def webhook_key(self) -> str | None:
        """The key of the webhook's signature, from the file when one is named."""
        return _secret(self.webhook_secret_file, self.webhook_secret)

    @property
    def mqtt_secret(self) -> str | None:
        """The MQTT password, from the file when one is named."""
        return _secret(self.mqtt_password_file, self.mqtt_password)


def _secret(file: Path | None, value: SecretStr | None) -> str | None:
    if file:
        return secret_files.read(file)
    return value.get_secret_value() if value else None


def load() -> Settings:
    """Read the settings, and warn of variables that are not read. Raises as `read` does."""
    settings = read()
    warn_of_bare(settings.model_fields_set, Settings.model_fields)
    return settings


def read() -> Settings:
    """The settings as they are now. Raises SettingsError that names all that is wrong, and no secret."""
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
