"""`iot-stream dlq`: dead letters listed, shown, taken out and in, put back and deleted."""

import typer

from app.cli.deadletters import deleting, files, looking, putting_back

dlq = typer.Typer(no_args_is_help=True)


@dlq.callback()
def group() -> None:
    """Work with dead letters. What changes something only says what it would do, until --yes."""


dlq.command()(looking.ls)
dlq.command()(looking.show)
dlq.command()(putting_back.replay)
dlq.command("export")(files.export)
dlq.command("import")(files.import_letters)
dlq.command()(deleting.purge)
