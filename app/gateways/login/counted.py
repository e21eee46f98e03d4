"""The accounts as one gateway asks them: each refusal is counted, by reason, and names nobody."""

import time

import structlog

from app.gateways.gateway_metrics import REFUSED_LOGINS
from app.ports import Account, Accounts, Refusal
from app.settings import Settings

log = structlog.get_logger()

LOG_SECONDS = 10.0  # from one line of the log to the next
# How often a connection asks for its account anew. Nearly always the answer is remembered; if a connection asked as
# seldom as the table is asked, a removed account would count for twice as long.
AGAIN_SECONDS = 10.0


def again_seconds(settings: Settings) -> float:
    """Seconds after which a connection, or a stream, asks for its account anew."""
    return min(AGAIN_SECONDS, settings.auth_cache_seconds)


class CountedAccounts:
    """app.ports.Accounts of one gateway; counts what is refused, so that the gateway need not."""

    def __init__(self, accounts: Accounts, gateway: str, knows_peers: bool = True) -> None:
        """`knows_peers` False: every peer is the address of a proxy."""
        self._accounts, self._gateway, self._knows_peers = accounts, gateway, knows_peers
        self._unlogged, self._logged_at = 0, float("-inf")

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        """Ask as the port says, and count a refusal."""
        return self._counted(await self._accounts.by_password(user, password, self._known(peer)), peer)

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        """Ask as the port says, and count a refusal."""
        return self._counted(await self._accounts.by_token(token, self._known(peer)), peer)

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        """Ask as the port says, and count a refusal."""
        return self._counted(await self._accounts.by_certificate(common_name, device, self._known(peer)), peer)

    async def anonymous(self, peer: str) -> Account | Refusal:
        """Ask as the port says, and count a refusal."""
        return self._counted(await self._accounts.anonymous(self._known(peer)), peer)

    def _known(self, peer: str) -> str:
        return peer if self._knows_peers else ""

    def _counted(self, found: Account | Refusal, peer: str) -> Account | Refusal:
        if isinstance(found, Refusal):
            REFUSED_LOGINS.labels(self._gateway, found.value).inc()
            self._unlogged += 1
            now = time.monotonic()
            if now >= self._logged_at + LOG_SECONDS:
                log.warning("login_refused", gateway=self._gateway, reason=found.value, peer=peer, count=self._unlogged)
                self._unlogged, self._logged_at = 0, now
        return found
