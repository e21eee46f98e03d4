"""Settings of the commands with which an operator changes something: dead letters, and what is noted of it."""

from pathlib import Path

from pydantic import BaseModel, Field

from app.settings.values import PositiveInt


class OperatorSettings(BaseModel, frozen=True):
    """What `iot-stream dlq` reads, and of the audit what `history` and `load` read too."""

    dlq_max_replays: PositiveInt = Field(
        5, description="a dead letter that was put back so often goes to the quarantine topic at the next replay"
    )
    kafka_quarantine_topic: str = Field(
        "iot-stream-quarantine", description="dead letters that no replay has cured; made when it is first needed"
    )
    audit_file: Path | None = Field(
        None, description="file to which a line of JSON is added of who has changed what, and how much of it"
    )
    audit_topic: str | None = Field(None, description="Kafka topic for the same lines; must exist")
    operator: str | None = Field(
        None, description="who runs a command, for these lines; unless set, the account of the operating system"
    )
