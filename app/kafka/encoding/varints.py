"""Numbers and headers as Kafka's records have them; those of small sizes are made once."""

Header = tuple[str, bytes]
SHORT = 8192  # numbers whose encoding is made once
TWO_BYTES = 64  # the first number whose encoding takes two bytes


def varint(number: int) -> bytes:
    """A signed number of at most 64 bits as Kafka's records have it: zigzag, 7 bits a byte, the lowest first."""
    left = (number << 1) ^ (number >> 63)
    found = bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


def encode_header(header: Header) -> bytes:
    """A header of a record."""
    name = header[0].encode()
    return b"".join((varint(len(name)), name, varint(len(header[1])), header[1]))


def sized(size: int) -> tuple[bytes, int]:
    """A size as it is encoded, and what the encoded size takes with so many bytes behind it."""
    encoded = varint(size)
    return encoded, size + len(encoded)


SIZED = [sized(size) for size in range(SHORT)]
ENCODED = [encoded for encoded, _ in SIZED]
TAKEN = [taken for _, taken in SIZED]
OFFSETS = [(encoded, len(encoded)) for encoded in ENCODED]
