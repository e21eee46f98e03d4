"""The end of a certificate, of files that OpenSSL made, and of bytes that are none."""

import contextlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.certificates import ends

CA = trustme.CA()
SOON = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
FAR = datetime(2061, 2, 3, 4, 5, 6, tzinfo=UTC)  # from 2050 on the time has another form


def pem(until: datetime) -> str:
    """A certificate that ends then."""
    return (
        CA.issue_cert("localhost", not_before=until - timedelta(days=9), not_after=until)
        .cert_chain_pems[0]
        .bytes()
        .decode()
    )


@pytest.mark.parametrize("until", [SOON, FAR])
def test_the_end_is_that_of_the_certificate(until: datetime) -> None:
    assert ends(pem(until)) == [until.timestamp()]


def test_a_file_may_have_several_with_text_between() -> None:
    assert ends(f"subject=x\n{pem(FAR)}\nother\n{pem(SOON)}") == [FAR.timestamp(), SOON.timestamp()]
    assert ends("no certificate") == []


def test_what_is_cut_short_is_a_value_error() -> None:
    der = ssl.PEM_cert_to_DER_cert(pem(SOON))
    for size in range(0, 200, 7):
        with pytest.raises(ValueError, match=r"cut short|does not match|PEM"):
            ends(ssl.DER_cert_to_PEM_cert(der[:size]))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_end_or_a_value_error(der: bytes) -> None:
    with contextlib.suppress(ValueError):
        ends(ssl.DER_cert_to_PEM_cert(der))
