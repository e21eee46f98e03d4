"""Bearer tokens: how a token looks, and what of the token is kept. Nobody guesses 256 bits: a plain hash will do."""

import hashlib
import re

PREFIX = "iots_"  # a search for secrets in files finds a token by this prefix
SECRET_BYTES = 32  # as base64url: 43 characters

_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}").fullmatch


def is_token(text: str) -> bool:
    """Whether a text has the form of a token; whether there is such a token only the table knows."""
    return _FORM(text) is not None


def digest(token: str) -> bytes:
    """What the table keeps of a token: its SHA-256, 32 bytes. Raises UnicodeEncodeError for a lone surrogate."""
    return hashlib.sha256(token.encode()).digest()
