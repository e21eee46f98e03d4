"""Settings -> the accounts of a process's gateways, put together of the table of accounts and a cache of its rows."""

from app.core.ingress.login_pace import LoginPace
from app.gateways.login.counted import CountedAccounts
from app.gateways.login.logins import Logins
from app.postgres.accounts.lookup import AccountLookup
from app.settings import Settings


def logins(settings: Settings) -> Logins:
    """The accounts that all gateways of a process share, not yet connected: the first look-up connects."""
    rows, pace = AccountLookup(settings), LoginPace()
    return Logins(rows, settings.auth_cache_seconds, pace, settings.gateway_anonymous_account)


def accounts_of(way: str, made: Logins, settings: Settings) -> CountedAccounts:
    """The accounts as the gateway `way` asks them, its refusals counted. Behind a proxy HTTP alone learns who the peer
    is; for the other gateways every peer is the proxy.
    """
    return CountedAccounts(made, way, knows_peers=way == "http" or not settings.gateway_behind_proxy)
