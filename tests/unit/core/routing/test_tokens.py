"""What a bearer token looks like."""

import secrets

from app.core.routing.tokens import PREFIX, SECRET_BYTES, digest, is_token


def test_a_token_is_known_and_nothing_else() -> None:
    token = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    assert is_token(token)
    for other in ("", PREFIX, token[1:], token + "x", token + "\n", f" {token}", token.replace("_", "-", 1), "é" * 48):
        assert not is_token(other), other


def test_a_digest_is_of_all_of_it() -> None:
    assert digest("iots_a") != digest("iots_b")
    assert len(digest("iots_a")) == 32
