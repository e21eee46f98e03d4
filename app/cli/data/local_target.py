"""`--local` of a command that manages accounts: the stack of this machine, whose settings count then."""

from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.options import say
from app.errors import PermanentError
from app.local.layout import Layout, default_root
from app.settings import Settings, load

if TYPE_CHECKING:
    from app.local.stack import Stack


def local_stack(directory: Path | None) -> "Stack":
    """The stack that runs in `directory` (None: the default one), its processes taken over. Raises PermanentError when
    none does.
    """
    layout = Layout(directory or default_root())
    if not layout.env.exists():
        raise PermanentError(f"no local stack runs in {layout.root}: start one with `iot-stream up`")
    from app.local.stack import Stack  # with the clients of Kafka and MQTT, which no other account waits for

    stack = Stack(layout, layout.remembered_ports(), say)
    stack.supervisor.adopt(stack.services)
    return stack


def settings_of(local: bool, directory: Path | None) -> Settings:
    """The settings of the local stack in `directory`, or, not `local`, the settings of the environment. Raises
    SettingsError, and PermanentError when no local stack runs.
    """
    return local_stack(directory).settings() if local else load()
