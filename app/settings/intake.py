"""Settings of what a worker takes in: readings and their times, presence, dead letters."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.settings.values import Classes, NonNegativeInt, PositiveFloat, PositiveInt


class IntakeSettings(BaseModel, frozen=True):
    """Which records are good, which devices are watched, and how many dead letters stop a worker."""

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
        600.0, description="for so long no silent device is reported on its own, unless the devices come back before"
    )
    devices_in_memory: PositiveInt = Field(
        100_000, description="devices whose state a worker keeps in memory; the state of all others is on its disk"
    )
    device_states_max: NonNegativeInt = Field(
        0,
        description="most devices whose state a worker keeps, for rules and presence; readings of more are stored, and "
        "nothing looks at them; 0: no limit",
    )
    device_states_tenant_max: NonNegativeInt = Field(0, description="most of them of one user; 0: no limit of its own")
    last_seen_every: PositiveFloat = Field(60.0, description="how often last_seen of what stays online is written")

    dead_letters_in_a_row: Annotated[int, Field(ge=0)] = Field(
        1000,
        description="more dead letters in a row stop the worker; 0: no limit",
    )
    dead_letters_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="more dead letters than this share of a window stop the worker; 1: no limit"
    )
    dead_letters_window: PositiveInt = Field(10_000, description="records the share is of")
    dead_letters_user_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1,
        description="share of either limit that one user counts for at most, if there are others; 1: the whole limit",
    )
