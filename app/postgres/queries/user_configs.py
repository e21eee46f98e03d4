"""user_configs as an operator sees it: the configurations of all users or of one user, and how to replace one."""

from datetime import datetime

from msgspec import Struct

from app.postgres.connect import Connection

_SOME = """SELECT user_id, rules::text, maintenance::text, updated_at, sampling::text, accepted IS NOT NULL
FROM user_configs WHERE user_id = coalesce($1, user_id) ORDER BY user_id"""
_STORE = """INSERT INTO user_configs (user_id, rules, maintenance, sampling)
VALUES ($1, $2::jsonb, coalesce($3::jsonb, '[]'), coalesce($4::jsonb, '{}'))
ON CONFLICT (user_id) DO UPDATE SET rules = EXCLUDED.rules,
  maintenance = coalesce($3::jsonb, user_configs.maintenance), sampling = coalesce($4::jsonb, user_configs.sampling)"""


class StoredConfig(Struct, frozen=True):
    """A user's row, right or wrong, as JSON texts."""

    user_id: str
    rules: str
    maintenance: str
    updated_at: datetime
    sampling: str
    accepted: bool  # workers have taken this configuration, or an earlier configuration, which stays in effect

    @property
    def document(self) -> bytes:
        """The whole configuration as JSON, as it could be published over MQTT."""
        parts = f'"rules": {self.rules}, "maintenance": {self.maintenance}, "sampling": {self.sampling}'
        return f"{{{parts}}}".encode()


async def stored(connection: Connection, user_id: str | None = None) -> list[StoredConfig]:
    """The configurations of all users, or of one user, if there is one. Raises sqlstate.DATABASE_ERRORS."""
    return [StoredConfig(*row) for row in await connection.fetch(_SOME, user_id)]


async def store(
    connection: Connection, user_id: str, rules: str, maintenance: str | None, sampling: str | None = None
) -> None:
    """Replace a user's rules by valid rules, and each other part that is not None. Raises sqlstate.DATABASE_ERRORS."""
    await connection.execute(_STORE, user_id, rules, maintenance, sampling)
