"""Settings -> the accounts of a process's gateways, put together of the table and what is remembered of it."""

from app.core.ingress.login_pace import LoginPace
from app.gateways.login.logins import Logins
from app.postgres.accounts.lookup import AccountLookup
from app.settings import Settings


def logins(settings: Settings) -> Logins:
    """Not yet connected: the first look-up connects."""
    pace = LoginPace(by_peer=not settings.gateway_behind_proxy)
    return Logins(AccountLookup(settings), settings.auth_cache_seconds, pace, settings.gateway_anonymous_account)
