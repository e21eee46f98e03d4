"""user_configs as an operator sees it: everybody's rule sets, one of them, and a new one in its place."""

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
    accepted: bool  # workers have taken it, or an earlier one, which takes effect while they refuse this one

    @property
    def document(self) -> bytes:
        """All of it as it could be published."""
        parts = f'"rules": {self.rules}, "maintenance": {self.maintenance}, "sampling": {self.sampling}'
        return f"{{{parts}}}".encode()


async def stored(connection: Connection, user_id: str | None = None) -> list[StoredConfig]:
    """Everybody's, or that of one user; none if there is none. Raises sqlstate.DATABASE_ERRORS."""
    return [StoredConfig(*row) for row in await connection.fetch(_SOME, user_id)]


async def store(
    connection: Connection, user_id: str, rules: str, maintenance: str | None, sampling: str | None = None
) -> None:
    """Put valid rules in the place of the user's, and the rest too unless None. Raises sqlstate.DATABASE_ERRORS."""
    await connection.execute(_STORE, user_id, rules, maintenance, sampling)
