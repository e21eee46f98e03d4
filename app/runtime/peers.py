"""Addresses of peers -> the group that an address counts in: an IPv6 host may use a whole network of addresses."""

import ipaddress
from functools import lru_cache

NETWORK_V6 = 64  # bits


@lru_cache(maxsize=16_384)
def grouped(peer: str) -> str:
    """The group of a peer: an IPv6 address (in brackets or with a zone, or not) becomes its network of NETWORK_V6 bits,
    an IPv4 address, also one mapped into IPv6, itself; anything else (a socket's path) its first 128 characters.
    """
    try:
        address = ipaddress.ip_address(peer.strip("[]").partition("%")[0])
    except ValueError:
        return peer[:128]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, NETWORK_V6), strict=False))
    return str(address)
