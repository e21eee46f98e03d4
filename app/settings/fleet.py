"""Settings of the whole fleet: its name, and what a reading measures."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.core.schema.schema import Schema
from app.settings.schema_struct import named
from app.settings.values import SchemaStruct


class FleetSettings(BaseModel, frozen=True):
    """What all programs of a fleet have in common."""

    app: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = Field(
        "worker", description="name of the fleet: consumer group and state changelog are named after it"
    )

    schema_struct: SchemaStruct = Field(
        "app.telemetry:Telemetry", description="what a reading measures, `module:Struct`: docs/adapting.md"
    )

    @property
    def group_id(self) -> str:
        """Consumer group, Faust app id and prefix of the changelog `iot-<app>-state-changelog`."""
        return f"iot-{self.app}"

    @property
    def telemetry_schema(self) -> Schema:
        """The columns of a reading, worked out of the struct that `schema_struct` names (once a process).

        Raises SettingsError when the name leads to no struct; that was checked when the settings were read.
        """
        return named(self.schema_struct)
