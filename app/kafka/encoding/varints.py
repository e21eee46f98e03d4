"""Numbers and headers in the encoding of Kafka's records; small numbers are encoded once."""

Header = tuple[str, bytes]
SHORT = 8192  # numbers below SHORT are encoded once
TWO_BYTES = 64  # the first number whose encoding takes two bytes


def varint(number: int) -> bytes:
    """The encoding of a signed number of at most 64 bits in Kafka's records: zigzag, 7 bits per byte, lowest first."""
    left = (number << 1) ^ (number >> 63)
    found = bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


def encode_header(header: Header) -> bytes:
    """The encoding of a record's header."""
    name = header[0].encode()
    return b"".join((varint(len(name)), name, varint(len(header[1])), header[1]))


def sized(size: int) -> tuple[bytes, int]:
    """(the encoded size, the bytes of the encoded size and of the data after it)."""
    encoded = varint(size)
    return encoded, size + len(encoded)


SIZED = [sized(size) for size in range(SHORT)]
ENCODED = [encoded for encoded, _ in SIZED]
TAKEN = [taken for _, taken in SIZED]
OFFSETS = [(encoded, len(encoded)) for encoded in ENCODED]
