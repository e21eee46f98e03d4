"""What the QUIC gateway leans on inside aioquic: its handshake as a server, its windows, and the names of both."""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import connection as aioquic_connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived
from aioquic.quic.stream import QuicStreamReceiver, QuicStreamSender

from app.client.quic.connection import SenderConnection
from app.gateways.quic.connection import HANDSHAKE_BYTES, MOST_GAPS
from app.gateways.quic.reset import ResetTokens
from tests.contract.gateways.quic.pipes import HERE, Pipes, pipes
from tests.contract.stream.internals import in_order, source
from tests.quic_rig import Authority

SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (tls.Context._server_handle_certificate, ["self", "input_buf"]),
    (tls.Context._server_handle_certificate_verify, ["self", "input_buf"]),
    (QuicConnection._initialize, ["self", "peer_cid"]),
    (QuicConnection._handle_crypto_frame, ["self", "context", "frame_type", "buf"]),
    (QuicConnection._handle_stream_frame, ["self", "context", "frame_type", "buf"]),
    (QuicConnection._write_connection_limits, ["self", "builder", "space"]),
    (QuicConnection._write_stream_limits, ["self", "builder", "space", "stream"]),
    (QuicConnection._on_connection_limit_delivery, ["self", "delivery", "limit"]),
    (QuicConnection._on_max_stream_data_delivery, ["self", "delivery", "stream"]),
    (QuicConnection.receive_datagram, ["self", "data", "addr", "now"]),
    (QuicConnection._replenish_connection_ids, ["self"]),
]


@pytest.mark.parametrize(("method", "parameters"), SIGNATURES, ids=[method.__qualname__ for method, _ in SIGNATURES])
def test_signature(method: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


def test_the_version_this_was_checked_against() -> None:
    assert version("aioquic") == "1.7.2"
    assert '"aioquic==1.7.2"' in Path("pyproject.toml").read_text()


def test_a_server_asks_for_a_certificate_behind_a_private_flag() -> None:
    in_order(
        tls.Context._server_handle_hello,
        "if self._request_client_certificate:",
        "push_certificate_request(",
        "if self._request_client_certificate: self._set_state(State.SERVER_EXPECT_CERTIFICATE)",
        "else: self._server_expect_finished()",
    )


def test_what_it_takes_for_an_answer_and_does_not_verify() -> None:
    """The reasons for mutual.py: when one is gone, so may be that part of it."""
    in_order(
        tls.Context._server_handle_certificate,
        "if certificate.certificates:",
        "self._set_peer_certificate(certificate)",
        "self._set_state(State.SERVER_EXPECT_CERTIFICATE_VERIFY)",
        "else: self._server_expect_finished()",
    )
    in_order(
        tls.Context._server_handle_certificate_verify,
        "self._check_certificate_verify_signature(verify)",
        "self._server_expect_finished()",
    )
    assert "verify_certificate(" not in source(tls.Context._server_handle_certificate_verify).replace(
        "pull_certificate_verify(", ""
    )


def test_keys_for_stream_data_come_after_the_clients_last_message() -> None:
    in_order(
        tls.Context._server_handle_finished,
        "if finished.verify_data != self._expected_verify_data: raise AlertDecryptError",
        "Direction.DECRYPT, Epoch.ONE_RTT",
    )
    assert source(tls.Context._server_handle_hello).count("Direction.DECRYPT, Epoch.ONE_RTT") == 0


def test_a_session_is_resumed_and_early_data_taken_only_with_a_fetcher_of_tickets() -> None:
    in_order(
        tls.Context._server_handle_hello,
        "if ( self.get_session_ticket_cb is not None",
        "self.early_data_accepted = True",
        "Direction.DECRYPT, Epoch.ZERO_RTT",
    )
    assert "if self._session_ticket_fetcher is not None:" in source(QuicConnection._initialize)


def test_the_context_of_tls_is_made_at_the_first_packet_and_at_no_other() -> None:
    in_order(QuicConnection._initialize, "self.tls = tls.Context(")
    in_order(
        QuicConnection.receive_datagram,
        "if not self._is_client and self._state == QuicConnectionState.FIRSTFLIGHT:",
        "self._initialize(header.destination_cid)",
        "crypto.decrypt_packet(",
        "if self._state == QuicConnectionState.FIRSTFLIGHT:",
        "self._set_state(QuicConnectionState.CONNECTED)",
    )


def test_frames_are_handled_by_methods_that_may_be_overridden() -> None:
    text = source(QuicConnection.__init__)
    assert "0x06: (self._handle_crypto_frame, EPOCHS(" in text
    assert text.count("(self._handle_stream_frame, EPOCHS(") == 8


def test_windows_are_written_by_two_methods_and_double() -> None:
    """The reason for connection.py."""
    in_order(QuicConnection._write_connection_limits, "if max_data.used * 2 > max_data.value: max_data.value *= 2")
    in_order(
        QuicConnection._write_stream_limits,
        "stream.receiver.highest_offset * 2 > stream.max_stream_data_local",
        "stream.max_stream_data_local *= 2",
        "if stream.max_stream_data_local_sent != stream.max_stream_data_local:",
        "handler=self._on_max_stream_data_delivery",
    )
    in_order(
        QuicConnection._write_application,
        "self._write_connection_limits(builder=builder, space=space)",
        "for stream in self._streams.values(): self._write_stream_limits(",
    )
    assert "limit.sent = 0" in source(QuicConnection._on_connection_limit_delivery)
    assert "stream.max_stream_data_local_sent = 0" in source(QuicConnection._on_max_stream_data_delivery)
    in_order(QuicConnection._handle_stream_frame, "self._local_max_data.used += newly_received")


def test_a_stream_that_is_over_makes_room_for_another() -> None:
    assert "self._stream_limit(stream.stream_id).value += 1" in source(QuicConnection._write_application)


def test_names_within_streams() -> None:
    assert "self._ranges = RangeSet()" in source(QuicStreamReceiver.__init__)
    for part in ("self._buffer = bytearray()", "self._buffer_fin", "self._reset_error_code"):
        assert part in source(QuicStreamSender.__init__)
    assert "del self._buffer[:size]" in source(QuicStreamSender.on_data_delivery)


def test_what_a_close_that_waits_is_called() -> None:
    in_order(QuicConnection.close, "self._close_pending = True")
    in_order(QuicConnection.datagrams_to_send, "if self._close_pending:", "self._close_begin(is_initiator=True")


def completed(made: Pipes) -> bool:
    return any(isinstance(event, HandshakeCompleted) for event in made.events())


def test_a_good_client_is_let_in(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    assert made.gateway.client_certificate is None
    made.turns()
    assert completed(made)
    assert made.gateway.client_certificate is not None


@pytest.mark.parametrize("shown", ["none", "stranger"])
def test_who_is_refused_gets_no_further_with_what_comes_behind(tmp_path: Path, shown: str) -> None:
    """The gateway answers once for all datagrams of a turn, so that more may come before its refusal is on its way."""
    (tmp_path / "other").mkdir()
    made = pipes(tmp_path, Authority(tmp_path / "other", "stranger").issue("n1") if shown == "stranger" else None)
    if shown == "none":
        made.client.tls.certificate = made.client.tls.certificate_private_key = None
    made.take(made.to_gateway())
    for data in made.to_client():
        made.client.receive_datagram(data, HERE, now=made.now)
    refusing, last = messages(made)[-2:]
    context, answers = made.gateway.tls, made.gateway._crypto_buffers
    for message in messages(made)[:-2]:
        context.handle_message(message, answers)
    with pytest.raises(tls.Alert, match="required" if shown == "none" else "trusted"):
        context.handle_message(refusing, answers)
    with pytest.raises(tls.AlertUnexpectedMessage):
        context.handle_message(last, answers)
    assert context.state is not tls.State.SERVER_POST_HANDSHAKE
    assert made.gateway.client_certificate is None


def messages(made: Pipes) -> list[bytes]:
    """The messages of the client's last flight: its certificate, the proof of its key, Finished."""
    flight = bytes(made.client._crypto_streams[tls.Epoch.HANDSHAKE].sender._buffer)
    found = []
    while flight:
        size = 4 + int.from_bytes(flight[1:4], "big")
        found.append(flight[:size])
        flight = flight[size:]
    return found


def test_once_a_close_waits_to_be_sent_nothing_more_is_taken(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    made.turns()
    made.events()
    made.gateway.close(error_code=1, reason_phrase="enough")
    made.client.send_stream_data(0, b"more")
    made.take(made.to_gateway())
    assert made.events() == []


def test_a_handshake_of_too_many_bytes_is_refused_before_they_are_kept(tmp_path: Path) -> None:
    """aioquic alone keeps half a megabyte of what anybody sends, and takes 16 MB for one message."""
    made = pipes(tmp_path)
    made.take(made.to_gateway())
    last = (HANDSHAKE_BYTES - 1 | 0x80000000).to_bytes(4, "big") + b"\x01x"  # offset, length, one byte
    made.gateway._handle_crypto_frame(context_of(made, tls.Epoch.HANDSHAKE), 0x06, Buffer(data=last))
    beyond = (HANDSHAKE_BYTES | 0x80000000).to_bytes(4, "big") + b"\x01x"
    with pytest.raises(QuicConnectionError) as refused:
        made.gateway._handle_crypto_frame(context_of(made, tls.Epoch.HANDSHAKE), 0x06, Buffer(data=beyond))
    assert "too many bytes" in refused.value.reason_phrase


def test_a_stream_in_too_many_pieces_ends_its_connection(tmp_path: Path) -> None:
    """Each piece is compared with all that wait for what is between them."""
    made = pipes(tmp_path)
    made.turns()
    receiver_of(made)
    for at in range(2, 2 * MOST_GAPS + 3, 2):
        made.gateway._handle_stream_frame(context_of(made), 0x0E, piece(at))
    with pytest.raises(QuicConnectionError) as refused:
        made.gateway._handle_stream_frame(context_of(made), 0x0E, piece(at + 2))
    assert "too many pieces" in refused.value.reason_phrase


def piece(at: int) -> Buffer:
    """A frame of stream 0 with one byte, at an offset."""
    return Buffer(data=b"\x00" + (at | 0x4000).to_bytes(2, "big") + b"\x01x")


def receiver_of(made: Pipes) -> None:
    """A stream is there, of which nothing came."""
    made.client.send_stream_data(0, b"x")
    made.turns(3)


def context_of(made: Pipes, epoch: tls.Epoch = tls.Epoch.ONE_RTT) -> QuicReceiveContext:
    """What a frame's handler is given of its packet."""
    return QuicReceiveContext(
        epoch=epoch,
        host_cid=made.gateway.host_cid,
        network_path=made.gateway._network_paths[0],
        quic_logger_frames=None,
        time=made.now,
        version=1,
    )


def test_a_handshake_gives_back_what_only_that_needs(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    made.turns()
    made.gateway.settle()
    made.client.send_stream_data(0, b"after")
    made.turns(3)
    assert any(isinstance(event, StreamDataReceived) for event in made.events())
    made.client._crypto_streams[tls.Epoch.ONE_RTT].sender.write(bytes(64))
    made.turns(3)
    assert made.gateway._close_event is not None, "a message of TLS after the handshake is an error, as it was"


def test_more_streams_than_are_granted_end_the_connection(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    made.turns()
    made.client._remote_max_streams_bidi = 100
    for number in range(0, 4 * 9, 4):
        made.client.send_stream_data(number, b"x")
    made.turns(3)
    assert made.gateway._close_event is not None
    assert "Too many streams" in made.gateway._close_event.reason_phrase


def test_streams_in_one_direction_are_granted_to_nobody(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    made.turns()
    assert made.client._remote_max_streams_uni == 0


def test_what_the_garbage_of_a_first_packet_leaves_is_known(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    first = bytearray(made.to_gateway()[0])
    first[200] ^= 1
    made.take([bytes(first)])
    assert not made.gateway.begun
    first[200] ^= 1
    made.take([bytes(first)])
    assert made.gateway.begun


def sent_while(made: Pipes, count: int) -> int:
    """Bytes of stream data that come in `count` turns."""
    came = 0
    for _ in range(count):
        made.turn()
        came += sum([len(event.data) for event in made.events() if isinstance(event, StreamDataReceived)])
    return came


def test_who_is_held_sends_what_was_granted_before_and_no_more(tmp_path: Path) -> None:
    """Also on a connection over which megabytes went: aioquic's own windows are as wide as all that came before."""
    made = pipes(tmp_path)
    made.turns()
    made.events()
    made.client.send_stream_data(0, bytes(8 << 20))
    assert sent_while(made, 400) > 2 << 20
    made.window[0] = 0
    assert sent_while(made, 400) <= 64 << 10
    assert sent_while(made, 100) == 0
    assert made.gateway.starved
    made.window[0] = 64 << 10
    assert sent_while(made, 100) > 256 << 10, "a limit that is written again is enough for it to go on"


def test_a_window_that_was_lost_on_its_way_is_sent_again(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    made.turns()
    made.client.send_stream_data(0, bytes(1 << 20))
    made.window[0] = 0
    sent_while(made, 100)
    made.window[0] = 64 << 10
    made.to_client()  # lost
    came = 0
    for _ in range(100):
        made.now += 0.05
        came += sent_while(made, 3)
    assert came > 128 << 10


def test_a_peer_that_does_not_read_its_answers_is_held(tmp_path: Path) -> None:
    made = pipes(tmp_path)
    made.turns()
    made.client.send_stream_data(0, bytes(4 << 20))
    sent_while(made, 20)
    made.gateway.send_stream_data(0, bytes(2 << 20))  # more than the client's window
    made.client._write_stream_limits = nothing  # type: ignore[method-assign,assignment]
    made.client._write_connection_limits = nothing  # type: ignore[method-assign,assignment]
    assert sent_while(made, 500) < 256 << 10
    assert made.gateway.backlog > 64 << 10
    assert not any(isinstance(event, ConnectionTerminated) for event in made.events())


def nothing(**_: object) -> None:
    """In the place of what grants more."""


def test_a_sender_that_was_forgotten_knows_it_by_any_id_it_was_given(tmp_path: Path) -> None:
    """aioquic gives each id a random token, which nobody knows after a restart, and does not look for one."""
    made = pipes(tmp_path)
    made.turns()
    tokens = made.gateway._server.tokens
    client = SenderConnection(configuration=made.client.configuration)
    client._peer_cid, client._peer_cid_available = made.client._peer_cid, made.client._peer_cid_available
    for one in made.gateway._host_cids:
        said = tokens.datagram(one.cid, 1200)
        assert said is not None
        assert client.forgotten(said), one
        assert not client.forgotten(said[:-1] + bytes([said[-1] ^ 1]))
    other = ResetTokens(b"another secret").datagram(made.gateway.host_cid, 1200)
    assert other is not None
    assert not client.forgotten(other)
    assert not client.forgotten(bytes(30))
    assert "stateless_reset_token" not in source(QuicConnection.receive_datagram)


@pytest.mark.parametrize("came", [*range(60), 1200])
def test_a_reset_is_shorter_than_what_it_answers_and_looks_like_any_packet(came: int) -> None:
    """So that two who answer one another with resets come to an end."""
    made = ResetTokens(b"secret").datagram(b"12345678", came)
    assert (made is None) == (came < 22)
    if made is not None:
        assert 21 <= len(made) < min(came, 43)
        assert made[0] & 0xC0 == 0x40


def test_a_configuration_has_the_fields_that_files_are_put_into() -> None:
    made = QuicConfiguration(is_client=False)
    assert (made.certificate, made.certificate_chain, made.private_key, made.cafile) == (None, [], None, None)
    assert aioquic_connection.MAX_PENDING_CRYPTO > HANDSHAKE_BYTES, "else ours is not needed"
