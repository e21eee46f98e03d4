"""`iot-stream history`: records of the input topic once more: offsets set back, records stored into another table,
compared with the rows, written into files.
"""

import typer

from app.cli.history import export, replay, reset, verify

history = typer.Typer(no_args_is_help=True)


@history.callback()
def group() -> None:
    """Work with what the input topic still has. What changes something only says what it would do, until --yes."""


history.command()(reset.reset)
history.command()(replay.replay)
history.command()(verify.verify)
history.command()(export.export)
