"""user_configs asked for change of value: which readings of whose devices are left out, as it is set now."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from app.core.model.namespaces import FLEET
from app.core.sampling.change_of_value import Policy
from app.core.sampling.left_out import PolicyOf
from app.core.schema.schema import Schema
from app.core.user_config.rulebook import RuleBook
from app.postgres.connect import Connection
from app.postgres.queries.config_feed import ROWS_OF

PAGE = 1_000  # users a round trip
# `accepted` is what workers go by while they refuse what is in the other columns.
_SAMPLED = "SELECT user_id FROM user_configs WHERE sampling <> '{}' OR accepted ? 'sampling' ORDER BY user_id"


class SamplingPolicies(NamedTuple):
    """The change of value of some users."""

    policy_of: PolicyOf
    since: Mapping[str, float]  # by user: when the configuration was last changed, seconds since 1970


async def policies_of(connection: Connection, schema: Schema, users: Collection[str] | None) -> SamplingPolicies:
    """The policies of these users; with None of all who have any. Raises sqlstate.DATABASE_ERRORS."""
    names = [row[0] for row in await connection.fetch(_SAMPLED)] if users is None else [*{*users, FLEET}]
    book, since = RuleBook(schema), dict[str, float]()
    for at in range(0, len(names), PAGE):
        for row in await connection.fetch(ROWS_OF, names[at : at + PAGE]):
            since[row[0]] = row[2].timestamp()
            if book.apply([(row[0], row[1])]) and row[3]:  # refused: what was accepted before holds
                book.apply([(row[0], row[3])])

    def policy(user_id: str, device_id: str) -> Policy | None:
        if user_id not in since and FLEET not in since:
            return None
        sampling = book.watch_for(user_id, device_id).sampling
        return sampling.policy if sampling else None

    return SamplingPolicies(policy, since)
