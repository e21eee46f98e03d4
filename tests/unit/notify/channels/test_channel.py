"""Which events a channel gets, and where a channel may go: by scheme, by name, and by the address behind the name."""

import socket
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from app.core.model.alert_event import AlertEvent, Status
from app.notify.channels.channel import AllowedTargets, is_public, read_channels
from app.notify.channels.guard import ConnectionGuard, guarded
from app.notify.channels.message_text import LISTED, one_event, several_events

TIME = datetime(2026, 11, 21, 9, tzinfo=UTC)
ALLOWED = AllowedTargets(("mailtos",), ("*.example.com", "localhost", "127.0.0.1", "8.8.8.8"), ("mail.lan",))


def event(severity: str = "warning", device: str = "truck-1", **more: object) -> AlertEvent:
    ids = ("a1", "alice", device, "hot", Status.FIRING)
    return msgspec.structs.replace(AlertEvent(*ids, severity, "too hot", 91.5, 80, TIME, TIME), **more)


@pytest.mark.parametrize(
    ("entry", "takes"),
    [
        ({}, True), ({"severity": "warning"}, True), ({"severity": "critical"}, False), ({"severity": "info"}, True),
        ({"devices": ["truck-*"]}, True), ({"devices": ["van-*", "truck-1"]}, True), ({"devices": ["van-*"]}, False),
    ],
)  # fmt: skip
def test_which_events_a_channel_gets(entry: dict[str, object], takes: bool) -> None:
    (found,) = read_channels(msgspec.json.encode([{"url": "MailTos://a:b@example.com", **entry}]))
    assert (found.scheme, found.takes(event())) == ("mailtos", takes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "Expected `array`"), ("[{}]", "missing required field `url`"), ('[{"url": 1}]', "Expected `str`"),
        ('[{"url": "secret://", "severty": "info"}]', "unknown field `severty`"),
        ('[{"url": "secret://", "severity": "bad"}]', "Invalid enum value 'bad'"),
        ("[" + ",".join(['{"url": "secret://"}'] * 21) + "]", "21 channels; a user has at most 20"),
        ("\udcff", "surrogates"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_channels(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_channels(text)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "2002:0a00:0001::1",
        "64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1",
        "2001:0:a00:1::1", "127.1", "0177.0.0.1", "2130706433", "x", "",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_of_the_internet(address: str) -> None:
    assert is_public(address)


def test_names() -> None:
    assert ALLOWED.refuses_host("smtp.Example.com.") is None
    assert ALLOWED.refuses_host("mail.lan") is None
    assert ALLOWED.refuses_host("example.org") == "the host 'example.org' is not in IOT_CHANNEL_HOSTS"
    assert ALLOWED.refuses_scheme("mailtos") is None
    assert ALLOWED.refuses_scheme("json") == "the scheme 'json' is not in IOT_CHANNEL_SCHEMES (mailtos)"
    assert ALLOWED.refuses_address("mail.lan", "10.0.0.5") is None
    assert "private address 10.0.0.5" in str(ALLOWED.refuses_address("smtp.example.com", "10.0.0.5"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_guarded_thread_connects_to_no_private_address(host: str) -> None:
    with guarded(watch := ConnectionGuard(ALLOWED)), pytest.raises(PermissionError, match="is at the private address"):
        socket.create_connection((host, 9), 1)
    assert watch.refused is not None


def test_a_guarded_thread_looks_up_no_other_name_opens_no_other_socket_and_starts_no_program() -> None:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as unix:
        attempts: list[Callable[[], object]] = [
            lambda: socket.getaddrinfo("example.org", 25),
            lambda: socket.gethostbyname("example.org"),
            lambda: unix.connect("/nowhere"),
            lambda: udp.sendto(b"x", ("10.0.0.1", 53)),
            lambda: tcp.connect(("10.0.0.1", 25)),
            lambda: socket.gethostbyaddr("10.0.0.1"),
            lambda: subprocess.run(["true"], check=False),
        ]
        for attempt in attempts:
            with guarded(watch := ConnectionGuard(ALLOWED)), pytest.raises(PermissionError):
                attempt()
            assert watch.refused is not None


def test_other_threads_and_this_thread_afterwards_do_as_they_did() -> None:
    def connects() -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 9), 1)
        done.append(True)

    done: list[bool] = []
    with guarded(ConnectionGuard(ALLOWED)):
        thread = threading.Thread(target=connects)
        thread.start()
        thread.join()
    connects()
    assert done == [True, True]


def test_the_words_of_a_message() -> None:
    title, body = one_event(event(device="d\x1b[31m", assignee="ann"))
    assert title == "FIRING warning: hot on d [31m"
    assert body.splitlines() == [
        "too hot", "acknowledged by ann", "", "value 91.5, threshold 80",
        "at 2026-11-21T09:00:00+00:00, since 2026-11-21T09:00:00+00:00",
        "user alice, device d [31m, rule hot, alert a1",
    ]  # fmt: skip
    title, body = several_events([event(device=f"d{number}") for number in range(LISTED + 5)])
    assert title == "25 alert events of 25 devices of alice"
    assert body.splitlines()[0] == "25 FIRING"
    assert body.splitlines()[-1] == "and 5 more: iot-stream alerts history --user alice"
    title, body = several_events([event()], 7)
    assert title == "8 alert events of alice"
    assert (body.splitlines()[0], body.splitlines()[-1].partition(":")[0]) == ("1 FIRING, 7 not kept", "and 7 more")
