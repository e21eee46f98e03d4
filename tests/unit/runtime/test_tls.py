"""Contexts of a server: what they show, whom they let in, and what is said of files that are none."""

import ssl
from pathlib import Path

import pytest
import trustme

from app.runtime.tls import server_context


@pytest.fixture
def files(tmp_path: Path) -> Path:
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = ca.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    ca.issue_cert("alice", common_name="alice").private_key_and_cert_chain_pem.write_to_path(tmp_path / "alice.pem")
    other.issue_cert("eve", common_name="eve").private_key_and_cert_chain_pem.write_to_path(tmp_path / "eve.pem")
    return tmp_path


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object] | str:
    """What the server knows of the client's certificate, or why there is no connection; in memory, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    done = [False, False]
    for _ in range(10):
        for at, side in enumerate((one, other)):
            try:
                side.do_handshake()
                done[at] = True
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error.reason or str(error)
    assert all(done)
    return dict(other.getpeercert() or {})


def client(files: Path, name: str | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(files / "ca.pem"))
    if name:
        made.load_cert_chain(files / f"{name}.pem")
    return made


def test_without_a_ca_of_clients_nobody_is_asked_for_a_certificate(files: Path) -> None:
    context = server_context(files / "server.pem")
    assert handshake(context, client(files, None)) == {}
    assert handshake(context, client(files, "alice")) == {}


def test_with_a_ca_of_clients_only_its_certificates_come_in(files: Path) -> None:
    context = server_context(files / "server.pem", None, files / "ca.pem")
    known = handshake(context, client(files, "alice"))
    assert isinstance(known, dict)
    assert known["subject"][-1] == (("commonName", "alice"),)  # type: ignore[index]
    assert handshake(context, client(files, None)) == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert handshake(context, client(files, "eve")) == "CERTIFICATE_VERIFY_FAILED"
    assert context.num_tickets == 0, "who resumes a session shows no certificate again"


def test_files_that_are_none_are_named(files: Path) -> None:
    (files / "no.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"no\.pem, which should hold the key as well"):
        server_context(files / "no.pem")
    with pytest.raises(ValueError, match=r"no\.pem holds no CA certificate"):
        server_context(files / "server.pem", None, files / "no.pem")
