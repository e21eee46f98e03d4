"""Whom an address counts as."""

import pytest

from app.runtime.peers import grouped


@pytest.mark.parametrize(
    ("peer", "whom"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::/64"),
        ("unix", "unix"),
        ("", ""),
        ("x" * 500, "x" * 128),
    ],
)
def test_an_ipv6_host_has_a_whole_network_to_ask_from(peer: str, whom: str) -> None:
    assert grouped(peer) == whom
