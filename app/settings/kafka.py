"""Settings of Kafka: the brokers, how to get in, the topics, the consumer group."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from app.settings.secret_files import secret_of
from app.settings.values import Brokers, CaFile, CertificateFile, KeyFile, PositiveFloat, PositiveInt, SecretFile


class KafkaSettings(BaseModel, frozen=True):
    """What every program that speaks to Kafka reads."""

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
    kafka_key_file: KeyFile = Field(None, description="key of the certificate; default: in the certificate's file")
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="how the password is shown; PLAIN with SASL_SSL alone"
    )
    kafka_username: str | None = Field(None, description="account, with SASL", validate_default=True)
    kafka_password: SecretStr | None = Field(None, description="password of the account; never logged")
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

    # One value at a time and not the whole model: the model is not looked at once any value is wrong.
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
            raise ValueError(f"{protocol} needs this setting")
        return value

    @property
    def kafka_secret(self) -> str | None:
        """The Kafka password, from the file when one is named; None: there is none. Raises as
        `secret_files.read` does.
        """
        return secret_of(self.kafka_password_file, self.kafka_password)
