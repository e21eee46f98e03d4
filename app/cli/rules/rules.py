"""`iot-stream rules`: look at rule sets, check, try and store them."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from app.backtest import rules_file
from app.cli.render.table import print_table
from app.cli.rules.backtest import backtest
from app.cli.rules.try_out import try_out
from app.core.model.namespaces import FLEET
from app.core.rules.rule import RuleSet
from app.core.schema.schema import Schema
from app.core.user_config.document import STORED_BYTES_MAX
from app.errors import PermanentError
from app.postgres.connect import operator_session
from app.postgres.queries.user_configs import StoredConfig, store, stored
from app.settings import Settings, load

rules = typer.Typer(no_args_is_help=True)
rules.command()(backtest)
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]
Compiled = RuleSet | tuple[rules_file.Mistake, ...]
RulesFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON array of rules.")]


@rules.callback()
def group() -> None:
    """Look at rule sets, check, try and store them."""


@rules.command("list")
def show(
    user: Annotated[str | None, typer.Option(help="Of this user alone, in full.")] = None,
    in_force: Annotated[
        bool, typer.Option("--in-force", help="The rules that the user's devices have, with those of all users (*).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The rule sets in user_configs. Exit code 1 when the workers refuse a rule set.

    Example: iot-stream rules list --user alice
    """
    settings = load()
    if in_force:
        print(json.dumps(_in_force(settings, user), indent=2, ensure_ascii=False))
        return
    found = asyncio.run(_stored(settings, user))
    if user and not found:
        raise PermanentError(f"user {user} has no rules; give some with `iot-stream rules set {user} FILE`")
    compiled = [(one, _compiled(one, settings.telemetry_schema)) for one in found]
    if as_json:
        print(msgspec.json.encode([_as_dict(*one) for one in compiled]).decode())
    elif user:
        print(json.dumps(json.loads(found[0].rules), indent=2, ensure_ascii=False))
    else:
        rows = []
        for one, rule_set in compiled:
            refused = "REFUSED, the earlier rules stay in effect: " if one.accepted else "REFUSED: "
            state = "ok" if isinstance(rule_set, RuleSet) else refused + "; ".join(_reasons(rule_set))
            count = len(rule_set.rules) if isinstance(rule_set, RuleSet) else "?"
            rows.append((one.user_id, str(count), f"{one.updated_at:%Y-%m-%d %H:%M:%S}Z", state))
        print_table(("user", "rules", "changed", "state"), rows)
    if not all(isinstance(rule_set, RuleSet) for _, rule_set in compiled):
        raise typer.Exit(1)


def _in_force(settings: Settings, user: str | None) -> list[dict[str, Any]]:
    if user is None:
        raise typer.BadParameter("whose? name a user with --user", param_hint="--in-force")
    rows = {one.user_id: one for name in (user, FLEET) for one in asyncio.run(_stored(settings, name))}
    for one in rows.values():
        if reasons := _reasons(_compiled(one, settings.telemetry_schema)):
            raise PermanentError(f"the workers refuse the rules of {one.user_id}: {'; '.join(reasons)}")
    own, fleet = (rows[name].rules if name in rows else "[]" for name in (user, FLEET))
    return rules_file.in_force(own, fleet)


@rules.command("set")
def put(user: Annotated[str, typer.Argument(help="The user of the rules.")], file: RulesFile) -> None:
    """Replace a user's rule set; the workers follow within IOT_RULES_POLL. One mistake refuses the whole set.

    Open alerts stay open under a rule that means the same, and resolve under a rule that changed or is gone.

    Example: iot-stream rules set alice rules.json
    """
    settings, text = load(), rules_file.text_of(file)
    schema = settings.telemetry_schema
    found = rules_file.valid(str(file), text, user, schema)
    before = asyncio.run(_replace(settings, user, text))
    old = _compiled(before, schema) if before else None
    known = {rule.id: rule.fingerprint for rule in old.rules} if isinstance(old, RuleSet) else {}
    same = sum(known.get(rule.id) == rule.fingerprint for rule in found.rules)
    print(f"stored {len(found.rules)} rules of {user}: {same} mean what they did, {len(found.rules) - same} are new or "
          f"changed, {len(known.keys() - {rule.id for rule in found.rules})} are gone")  # fmt: skip


@rules.command()
def check(file: RulesFile, as_json: AsJson = False) -> None:
    """Name every mistake of a rule set, with its line. Exit code 0: none, 1: some. Needs no server.

    Example: iot-stream rules check rules.json
    """
    schema = load().telemetry_schema  # the schema says which keys are columns
    found = rules_file.read(rules_file.text_of(file), "", schema)
    mistakes = () if isinstance(found, RuleSet) else found
    if as_json:
        print(msgspec.json.encode({"valid": not mistakes, "mistakes": mistakes}).decode())
    elif isinstance(found, RuleSet):
        print(f"{file}: {len(found.rules)} rules, no mistakes")
    else:
        print("\n".join(f"{file}:{one.line}: {one.what}" for one in found))
    if mistakes:
        raise typer.Exit(1)


rules.command("test")(try_out)


async def _stored(settings: Settings, user: str | None) -> list[StoredConfig]:
    async with operator_session(settings, "rules") as connection:
        return await stored(connection, user)


async def _replace(settings: Settings, user: str, text: bytes) -> StoredConfig | None:
    """Store the rules of a file without mistakes; returns the rules before."""
    async with operator_session(settings, "rules") as connection, connection.transaction():
        before = await stored(connection, user)
        await store(connection, user, *rules_file.parts(text))
        return before[0] if before else None


def _compiled(one: StoredConfig, schema: Schema) -> Compiled:
    return rules_file.read(one.document, one.user_id, schema, STORED_BYTES_MAX)


def _reasons(compiled: Compiled) -> tuple[str, ...]:
    return () if isinstance(compiled, RuleSet) else tuple(mistake.what for mistake in compiled)


def _as_dict(one: StoredConfig, compiled: Compiled) -> dict[str, Any]:
    parts = {"rules": msgspec.Raw(one.rules.encode()), "maintenance": msgspec.Raw(one.maintenance.encode())}
    parts["sampling"] = msgspec.Raw(one.sampling.encode())
    return {"user_id": one.user_id, "updated_at": one.updated_at, **parts, "refused": _reasons(compiled)}
