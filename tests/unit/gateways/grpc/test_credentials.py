"""What a call says of who makes it: each form, each wrong one without a word of what was shown, and whatever bytes."""

from base64 import b64encode

import pytest

from app.core.routing.certificate_names import device_uri
from app.gateways.grpc.credentials import (
    LONGEST,
    CertificateShown,
    NoCredentials,
    NothingShown,
    OtherDevice,
    PasswordShown,
    Shown,
    TokenShown,
    shown,
)
from tests.fuzzing import INPUTS, broken

CERTIFICATE = {"x509_common_name": [b"alice"]}


def basic(text: bytes) -> str:
    return f"Basic {b64encode(text).decode()}"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Bearer abc", TokenShown("abc")),
        ("BEARER  abc ", TokenShown("abc")),
        (basic(b"alice:se:cret"), PasswordShown("alice", "se:cret")),
        (basic("zoë:pässword".encode()), PasswordShown("zoë", "pässword")),
        (basic(b"alice:"), PasswordShown("alice", "")),
    ],
)
def test_forms_of_authorization(value: str, found: Shown) -> None:
    assert shown([("authorization", value)], {}) == found


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "abc", "Basic", basic(b"secret"), basic(b"\xff:secret"), "Basic =", "Digest secret"],
)
def test_what_is_none_is_said_without_what_was_shown(value: str) -> None:
    found = shown([("authorization", value)], CERTIFICATE)
    assert isinstance(found, NoCredentials)
    assert "secret" not in found.detail


def test_a_header_too_long_and_one_twice() -> None:
    assert isinstance(shown([("authorization", "Bearer " + "x" * LONGEST)], {}), NoCredentials)
    assert isinstance(shown([("authorization", "Bearer a"), ("authorization", "Bearer b")], {}), NoCredentials)
    assert shown([("authorization", "Bearer a"), ("authorization", "Bearer a")], {}) == TokenShown("a")
    assert isinstance(shown([("authorization", b"Bearer a")], {}), NoCredentials)


def test_a_certificate_is_its_common_name_and_the_device_that_it_is_bound_to() -> None:
    assert shown([], {}) == NothingShown()
    assert shown([], CERTIFICATE) == CertificateShown("alice", None)
    bound = {**CERTIFICATE, "peer_uri": [b"https://x", device_uri("s 1/ü").encode()], "peer_dns": [b"host"]}
    assert shown([], bound) == CertificateShown("alice", "s 1/ü")
    assert shown([("device-id", "s 1/ü")], bound) == CertificateShown("alice", "s 1/ü")
    assert isinstance(shown([("device-id", "other")], bound), OtherDevice)
    assert shown([("device-id", "s2")], CERTIFICATE) == CertificateShown("alice", "s2")
    assert isinstance(shown([("device-id", b"s2")], CERTIFICATE), NoCredentials)
    assert isinstance(shown([], {"x509_common_name": [b""]}), NoCredentials)


def test_authorization_decides_where_there_is_both() -> None:
    assert shown([("authorization", "Bearer abc")], CERTIFICATE) == TokenShown("abc")


SEEDS = [
    b"Bearer iot_0123456789abcdef",
    basic(b"alice:secret").encode(),
    basic("zo\u00eb:p\u00e4ss".encode()).encode(),
    b"Basic",
    device_uri("s1").encode(),
    b"alice",
]
TOKENS = [
    b"Bearer ",
    b"Basic ",
    b" ",
    b"=",
    b":",
    b"\0",
    b"\xff",
    b"\n",
    b"%",
    b"%41",
    b"urn:iot-stream:device:",
    b"=" * 5,
]


@pytest.mark.fuzz
def test_whatever_is_shown_it_is_one_of_these() -> None:
    kinds = set()
    for number, data in enumerate(broken(SEEDS, TOKENS, INPUTS, 13)):
        text = data.decode("latin-1")
        metadata = [("authorization", text)] if number % 2 else [("device-id", text)]
        found = shown(metadata, {"x509_common_name": [data], "peer_uri": [data, SEEDS[4]][number % 3 :]})
        kinds.add(type(found))
        if isinstance(found, PasswordShown | TokenShown):
            assert number % 2
        elif isinstance(found, CertificateShown):
            assert found.common_name
            assert not number % 2
        elif isinstance(found, NoCredentials | OtherDevice):
            assert found.detail.isprintable()
    assert kinds == {TokenShown, PasswordShown, CertificateShown, NoCredentials, OtherDevice}
