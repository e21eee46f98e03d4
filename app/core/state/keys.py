"""The keys of the state table that belong to no device, and what is stored under them."""

MARK_KEY = b"\0applied"  # no device has this key: ids hold no NUL


OFFSET_DIGITS = 20  # one digit more than an offset may have


def mark_of(stored: bytes | None) -> int:
    """The offset of a stored mark, -1 for bytes that are no mark."""
    return int(stored) if stored is not None and stored.isdigit() and len(stored) < OFFSET_DIGITS else -1
