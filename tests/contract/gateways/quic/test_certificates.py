"""Who a QUIC gateway lets in: each kind of certificate, over a real handshake; of nobody else is a byte read."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.ports import Refusal
from app.runtime.quic.contract import CRYPTO_ERRORS, Alert
from tests.quic_rig import SERVER, Authority, GatewayRig, Pair, batch, gateway_rig, until


async def refused(rig: GatewayRig, configuration: QuicConfiguration) -> str:
    """Why it was not let in; it had sent a batch as soon as it could, which nobody has read."""
    async with rig.session(configuration) as sender:
        if not sender.session.closed.done():
            sender.session.send(sender.session.open_stream(), batch(1, "s1").SerializeToString())
        end = await sender.ended()
        assert sender.answers == []
    assert rig.writer.written == []
    assert end.for_ever
    return end.words


async def test_a_good_certificate_is_its_common_name_and_sends(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as sender:
        sender.session.send(sender.session.open_stream(), batch(7, "s1", "s2").SerializeToString())
        (answer,) = await sender.heard(1)
        assert (answer.batch_id, answer.accepted, len(answer.rejected)) == (7, 2, 0)
        assert rig.accounts.asked == [("n1", None, "127.0.0.1")]
        assert [dict(record.headers)["mqtt_topic"] for record in rig.writer.written] == [
            b"iot/n1/s1/telemetry",
            b"iot/n1/s2/telemetry",
        ]
        assert dict(rig.writer.written[0].headers)["gateway"] == b"quic"


async def test_no_certificate_is_refused(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        without = replace(rig.client(), certificate=None, certificate_chain=[], private_key=None)
        assert "a client certificate is required" in await refused(rig, without)
        await until(lambda: rig.gateway.open == 0)


async def test_one_of_another_ca_is_refused(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        words = await refused(rig, rig.client(rig.stranger.issue("n1")))
        assert "of no CA that is trusted here" in words


async def test_one_that_names_our_ca_as_its_signer_and_is_not_is_refused(tmp_path: Path) -> None:
    """The CA's name is no secret; its key is."""
    async with gateway_rig(tmp_path) as rig:
        (tmp_path / "imposter").mkdir()
        imposter = Authority(tmp_path / "imposter")
        assert "signature" in await refused(rig, rig.client(imposter.issue("n1")))


@pytest.mark.parametrize(("days", "words"), [((-3.0, -1.0), "expired"), ((1.0, 3.0), "not yet valid")])
async def test_one_that_has_ended_or_not_begun_is_refused(
    tmp_path: Path, days: tuple[float, float], words: str
) -> None:
    async with gateway_rig(tmp_path) as rig:
        assert words in await refused(rig, rig.client(rig.authority.issue("n1", days=days)))


async def test_one_of_a_server_is_refused(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        assert "not one of a client" in await refused(rig, rig.client(rig.authority.issue("n1", usage=SERVER)))
        own = Pair(rig.settings.quic_certificate_file or Path(), rig.settings.quic_key_file or Path())
        assert "not one of a client" in await refused(rig, rig.client(own)), "the gateway's own is nobody's"


async def test_one_without_extended_usage_is_for_any_use(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session(rig.client(rig.authority.issue("n1", usage=None))) as sender:
        sender.session.send(sender.session.open_stream(), batch(1, "s1").SerializeToString())
        assert (await sender.heard(1))[0].accepted == 1


async def test_one_whose_key_the_peer_has_not_is_refused(tmp_path: Path) -> None:
    """A certificate is public: anybody may show it."""
    async with gateway_rig(tmp_path) as rig:
        stolen = rig.client()
        stolen.private_key = load_pem_private_key(rig.authority.issue("n2").key.read_bytes(), None)
        assert "TLS alert 51" in await refused(rig, stolen)


@pytest.mark.parametrize("common_name", ["nobody", None])
async def test_one_that_names_no_account_is_refused(tmp_path: Path, common_name: str | None) -> None:
    async with gateway_rig(tmp_path) as rig:
        words = await refused(rig, rig.client(rig.authority.issue(common_name)))
        assert "common name" in words


@pytest.mark.parametrize("answer", [Refusal.UNAVAILABLE, Refusal.SLOWED_DOWN])
async def test_who_cannot_be_asked_for_now_may_come_again(tmp_path: Path, answer: Refusal) -> None:
    async with gateway_rig(tmp_path) as rig:
        rig.accounts.answer = answer
        async with rig.session() as sender:
            end = await sender.ended()
        assert not end.for_ever


async def test_nobody_waits_for_accounts_for_ever(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, gateway_header_seconds=0.3) as rig:
        rig.accounts.silent = True
        async with rig.session() as sender:
            end = await sender.ended(5)
        assert (end.words, end.for_ever) == ("accounts cannot be asked now: connect again", False)


async def test_an_account_speaks_for_itself_alone(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session(rig.client(rig.authority.issue("n2"))) as sender:
        sender.session.send(sender.session.open_stream(), batch(1, "s1", node="n1").SerializeToString())
        (answer,) = await sender.heard(1)
        assert (answer.accepted, [one.reason for one in answer.rejected]) == (0, ["not_allowed"])
        assert rig.writer.written == []


async def test_a_certificate_of_a_device_speaks_for_that_device_alone(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        bound = rig.client(rig.authority.issue("n1", device="Boiler 1"))
        async with rig.session(bound) as sender:
            sender.session.send(sender.session.open_stream(), batch(1, "Boiler 1", "s2").SerializeToString())
            (answer,) = await sender.heard(1)
            assert (answer.accepted, [one.index for one in answer.rejected]) == (1, [1])
            assert rig.accounts.asked == [("n1", "Boiler 1", "127.0.0.1")]


async def test_a_host_name_in_a_certificate_binds_it_to_no_device(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        named = rig.client(rig.authority.issue("n1", hosts=("node-1.example.com",)))
        async with rig.session(named) as sender:
            sender.session.send(sender.session.open_stream(), batch(1, "s1").SerializeToString())
            assert (await sender.heard(1))[0].accepted == 1


async def test_another_protocol_is_refused(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        other = rig.client()
        other.alpn_protocols = ["h3"]
        assert "ALPN" in await refused(rig, other)


async def test_who_does_not_trust_the_gateway_sends_nothing(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig:
        wary = replace(rig.client(), cafile=str(rig.stranger.file))
        assert "no handshake with the gateway" in await refused(rig, wary)
        elsewhere = replace(rig.client(), server_name="elsewhere.example")
        assert "doesn't match" in await refused(rig, elsewhere)


async def test_an_account_that_is_gone_ends_its_connections(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, auth_cache_seconds=0.5) as rig, rig.session() as sender:
        sender.session.send(stream := sender.session.open_stream(), batch(1, "s1").SerializeToString())
        await sender.heard(1)
        rig.accounts.answer = Refusal.UNAVAILABLE
        await until(lambda: len(rig.accounts.asked) > 1)
        sender.session.send(stream, batch(2, "s1").SerializeToString())
        assert len(await sender.heard(2)) == 2, "who was known goes on while accounts cannot be asked"
        rig.accounts.answer = Refusal.BAD_CREDENTIALS
        end = await sender.ended()
        assert "no account's" in end.words


async def test_a_certificate_that_ends_ends_its_connection(tmp_path: Path) -> None:
    soon = 5 / 86400
    async with gateway_rig(tmp_path) as rig, rig.session(rig.client(rig.authority.issue("n1", days=(-1, soon)))) as one:
        one.session.send(one.session.open_stream(), batch(1, "s1").SerializeToString())
        await one.heard(1)
        end = await one.ended()
        assert (end.words, end.for_ever) == ("the certificate has ended", True)


async def test_renewed_files_are_used_for_the_connections_to_come(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path) as rig, rig.session() as before:
        shown = rig.gateway._configuration
        (tmp_path / "next").mkdir()
        successor = Authority(tmp_path / "next")
        server, files = successor.issue("gateway", usage=SERVER, hosts=("localhost",)), rig.settings
        for file, new in (
            (files.quic_certificate_file, server.certificate),
            (files.quic_key_file, server.key),
            (files.quic_ca_file, successor.file),
        ):
            assert file
            new.replace(file)
        rig.authority.file = files.quic_ca_file or Path()
        await until(lambda: rig.gateway._configuration is not shown)  # the gateway looks every second
        before.session.send(before.session.open_stream(), batch(1, "s1").SerializeToString())
        assert (await before.heard(1))[0].accepted == 1, "who is connected goes on"
        assert "refuses our certificate" in await refused_now(rig, rig.client())
        async with rig.session(rig.client(successor.issue("n1"))) as after:
            after.session.send(after.session.open_stream(), batch(1, "s1").SerializeToString())
            assert (await after.heard(1))[0].accepted == 1


async def refused_now(rig: GatewayRig, configuration: QuicConfiguration) -> str:
    async with rig.session(configuration) as sender:
        return (await sender.ended()).words


def test_alerts_have_the_codes_of_quic() -> None:
    codes: Sequence[int] = [CRYPTO_ERRORS[alert] for alert in Alert]
    assert codes == [298, 299, 301, 304, 372, 376]
