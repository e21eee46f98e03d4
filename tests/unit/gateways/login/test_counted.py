"""Refused logins of one gateway: each is counted by its reason, and the log gets one line in ten seconds."""

from structlog.testing import capture_logs

from app.gateways.gateway_metrics import REFUSED_LOGINS
from app.gateways.login.counted import CountedAccounts
from app.ports import Account, Refusal

ALICE = Account("alice", None)


class Table:
    """Lets in whoever has the password `right`; notes which peers it was asked about."""

    def __init__(self) -> None:
        self.peers: list[str] = []

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        self.peers.append(peer)
        return ALICE if password == "right" else Refusal.BAD_CREDENTIALS

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        self.peers.append(peer)
        return Refusal.UNAVAILABLE

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        self.peers.append(peer)
        return ALICE

    async def anonymous(self, peer: str) -> Account | Refusal:
        self.peers.append(peer)
        return Refusal.SLOWED_DOWN


def refused(gateway: str, reason: Refusal) -> float:
    return float(REFUSED_LOGINS.labels(gateway, reason.value)._value.get())


async def test_refusals_are_counted_and_logged_once_in_a_while() -> None:
    accounts = CountedAccounts(Table(), "counted")
    with capture_logs() as lines:
        for _ in range(3):
            assert await accounts.by_password("alice", "wrong", "192.0.2.1") is Refusal.BAD_CREDENTIALS
        assert await accounts.by_token("t", "192.0.2.1") is Refusal.UNAVAILABLE
        assert await accounts.anonymous("192.0.2.1") is Refusal.SLOWED_DOWN
    assert [refused("counted", one) for one in (Refusal.BAD_CREDENTIALS, Refusal.UNAVAILABLE)] == [3, 1]
    (line,) = lines
    assert (line["event"], line["reason"], line["count"]) == ("login_refused", "bad_credentials", 1)
    assert "alice" not in str(line), "no line names who failed"


async def test_who_is_let_in_is_neither_counted_nor_logged() -> None:
    accounts = CountedAccounts(Table(), "well")
    with capture_logs() as lines:
        assert await accounts.by_password("alice", "right", "192.0.2.1") is ALICE
        assert await accounts.by_certificate("alice", None, "192.0.2.1") is ALICE
    assert (lines, refused("well", Refusal.BAD_CREDENTIALS)) == ([], 0)


async def test_the_address_of_a_proxy_is_no_peer() -> None:
    table = Table()
    await CountedAccounts(table, "proxied", knows_peers=False).by_password("alice", "right", "10.0.0.1")
    await CountedAccounts(table, "direct").by_password("alice", "right", "192.0.2.1")
    assert table.peers == ["", "192.0.2.1"]
