"""Configurations over MQTT -> user_configs: SQL that takes the newest, and a report of each that is not taken.

Which of two messages of a user is newer shows in their places in the log, which no clock of a bridge changes. An edit
by hand has no place there: against such an edit the message's time of arrival counts. This time counts too where places
say nothing: the message has come to another partition than the last message, its topic was made anew, or the message is
a replay.
"""

from collections.abc import Sequence
from typing import Any

from app.postgres.connect import Connection
from app.postgres.events import StoreEvents

# $4: when the message came in; $5, $6: partition and offset; $7: whether this is the place in the log of its sending.
# edited_at always moves, by which the trigger knows that this is no edit by hand.
_SQL = """
INSERT INTO user_configs (user_id, rules, maintenance{column}, edited_at,
    message_edited_at, message_at, message_partition, message_offset)
VALUES ($1, coalesce($2::jsonb, '[]'), coalesce($3::jsonb, '[]'){value}, least($4::timestamptz, clock_timestamp()),
    least($4::timestamptz, clock_timestamp()), $4, $5::integer, $6::bigint)
ON CONFLICT (user_id) DO UPDATE SET rules = coalesce($2::jsonb, user_configs.rules),
    maintenance = coalesce($3::jsonb, user_configs.maintenance),{change}
    edited_at = greatest(EXCLUDED.edited_at, user_configs.edited_at + interval '1 microsecond'),
    message_edited_at = greatest(EXCLUDED.edited_at, user_configs.edited_at + interval '1 microsecond'),
    message_at = greatest(EXCLUDED.message_at, user_configs.message_at),
    message_partition = EXCLUDED.message_partition, message_offset = EXCLUDED.message_offset
WHERE CASE WHEN user_configs.edited_at IS NOT DISTINCT FROM user_configs.message_edited_at
    THEN EXCLUDED.message_at > user_configs.message_at
        OR ($7::boolean AND EXCLUDED.message_partition = user_configs.message_partition
            AND EXCLUDED.message_offset >= user_configs.message_offset)
    ELSE date_trunc('milliseconds', user_configs.edited_at) <= EXCLUDED.edited_at
        AND (user_configs.message_at IS NULL OR EXCLUDED.message_at > user_configs.message_at
            OR ($7::boolean AND EXCLUDED.message_partition = user_configs.message_partition
                AND EXCLUDED.message_offset > user_configs.message_offset)) END"""

UPSERT = _SQL.format(column="", value="", change="")
UPSERT_SAMPLED = _SQL.format(column=", sampling", value=", $8::jsonb", change="\n    sampling = EXCLUDED.sampling,")


async def carry_out(connection: Connection, sql: str, edits: Sequence[Sequence[Any]], events: StoreEvents) -> None:
    """Write configurations in their order; a configuration that is not the newest is left out and reported."""
    for edit in newest(edits):
        if await connection.execute(sql, *edit) == "INSERT 0 0":
            user_id, _, _, came_in, partition, offset = edit[:6]
            events.config_left_out(user_id, came_in, partition, offset)


def newest(edits: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The edits that no later edit replaces: a user who sends rules again and again causes one write a batch."""
    kept, later = [], dict[str, Sequence[Any]]()
    for edit in reversed(edits):
        after = later.get(edit[0])
        if after is None or not _covers(after, edit):
            later[edit[0]] = edit
            kept.append(edit)
    return kept[::-1]


def _covers(after: Sequence[Any], edit: Sequence[Any]) -> bool:
    """Whether nothing of `edit` is left once `after` is written, and that is written if `edit` would be."""
    *_, came_in, partition, offset, live = edit[:7]
    in_place = after[3] >= came_in and after[4] == partition and after[5] >= offset and after[6] >= live
    parts = [(edit[index], after[index]) for index in (1, 2, *range(7, len(edit)))]
    return in_place and all(new is not None or old is None for old, new in parts)
