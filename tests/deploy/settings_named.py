"""Variables a deployed file sets, held against the settings there are (app/settings)."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from app.settings import Settings
from app.settings.names import variables


def unknown(names: Iterable[str]) -> set[str]:
    """The names that begin with IOT_ and are no setting."""
    return {name for name in names if name.startswith("IOT_")} - variables(Settings.model_fields)


def refused(variables: dict[str, str]) -> list[str]:
    """Values the settings do not take; files and secrets are not looked at, they are elsewhere."""
    given: dict[str, Any] = {
        name.removeprefix("IOT_").lower(): re.sub(r"\$\(\w+\)", "db:5432/iot", value)  # a variable of Kubernetes
        for name, value in variables.items()
        if name.startswith("IOT_") and not name.endswith("_FILE")
    }
    try:
        Settings(_env_file=None, **given)
    except ValidationError as error:
        return [f"{problem['loc']}: {problem['msg']}" for problem in error.errors()]
    return []
