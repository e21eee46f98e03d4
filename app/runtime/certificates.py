"""Certificates in PEM in, the moments at which they end out. Nothing is verified: that is what tls.py is for."""

import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_VERSION, _UTC_TIME = 0xA0, 0x17  # tags of ASN.1; a time that is none of UTCTime is GeneralizedTime


def ends(pem: str) -> Sequence[float]:
    """When each certificate of the text of a PEM file ends (notAfter): seconds since 1970, in the order of the file.

    Empty when there is no certificate in it. Raises ValueError for a certificate that is cut short or no base64.
    """
    return [_not_after(ssl.PEM_cert_to_DER_cert(one)) for one in _PEM.findall(pem)]


def _not_after(der: bytes) -> float:
    """RFC 5280, 4.1: Certificate { TBSCertificate { [version], serial, algorithm, issuer, { notBefore, notAfter }..."""
    try:
        _, at, _ = _value(der, 0)
        _, at, _ = _value(der, at)
        tag, _, end = _value(der, at)
        at = end if tag == _VERSION else at
        for _ in ("serial", "algorithm", "issuer"):
            _, _, at = _value(der, at)
        _, at, _ = _value(der, at)
        _, _, at = _value(der, at)
        tag, begin, end = _value(der, at)
    except IndexError:
        raise ValueError("a certificate is cut short") from None
    text = der[begin:end].decode("ascii")
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()


def _value(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the value at `at`. Raises IndexError."""
    tag, size, begin = der[at], der[at + 1], at + 2
    if size & 0x80:  # so many bytes of length follow
        count = size & 0x7F
        size, begin = int.from_bytes(der[begin : begin + count], "big"), begin + count
    if begin + size > len(der):
        raise IndexError
    return tag, begin, begin + size
