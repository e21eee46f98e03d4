"""Mutes of a user -> user_configs.mutes: SQL that puts one there, and that takes one away.

A row that only a mute has made is older than every configuration, by which messages know that they may replace it.
"""

MUTES_MAX = 1_000  # of a user; the oldest go first

_SAME = "one->>'rule_id' = $2 AND one->>'device_id' = $3"
_ALL = "jsonb_array_elements(kept.mutes) WITH ORDINALITY AS entries (one, place)"

# $4: the mute as JSON; $5: since when.
UPSERT = f"""
INSERT INTO user_configs AS kept (user_id, mutes, edited_at)
SELECT $1::text, jsonb_build_array($4::jsonb), timestamptz 'epoch' WHERE $2::text IS NOT NULL AND $3::text IS NOT NULL
ON CONFLICT (user_id) DO UPDATE SET mutes = EXCLUDED.mutes || coalesce((SELECT jsonb_agg(one ORDER BY place)
    FROM (SELECT one, place FROM {_ALL} WHERE NOT ({_SAME})
        AND coalesce((one->>'until')::timestamptz > $5::timestamptz, true)
        ORDER BY place LIMIT {MUTES_MAX - 1}) AS others), '[]')
WHERE NOT EXISTS (SELECT FROM {_ALL} WHERE {_SAME} AND (one->>'since')::timestamptz > $5::timestamptz)"""  # noqa: S608
# $4: since when
DELETE = f"""
UPDATE user_configs AS kept SET mutes = coalesce((SELECT jsonb_agg(one ORDER BY place)
    FROM {_ALL} WHERE NOT ({_SAME} AND (one->>'since')::timestamptz <= $4::timestamptz)), '[]')
WHERE user_id = $1::text AND EXISTS (SELECT FROM {_ALL} WHERE {_SAME})"""  # noqa: S608
