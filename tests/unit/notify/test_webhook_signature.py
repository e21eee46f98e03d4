"""Signatures of a webhook: those of Standard Webhooks as its reference library makes them, and the older ones."""

import base64
import hashlib
import hmac

import pytest

from app.errors import SettingsError
from app.notify.webhook_signature import WebhookSigner

NAME, SECONDS, BODY = "53000cbd-FIRING-0", 1_764_000_000, '{"value":84.5,"message":"zu heiß"}'.encode()
# As `Webhook(secret).sign(NAME, SECONDS, BODY)` of the Python package standardwebhooks 1.1.0 gave them.
REFERENCE = {
    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX": "v1,+CQ344O1+vXxnPqRhIecupivXB3ikAaiYOedFo8uwcQ=",
    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==":
        "v1,xlCVvNpUs9i3UkkvFlfWaIqojglkuzgEpc9xSB+kuDw=",
}  # fmt: skip


@pytest.mark.parametrize("secret", [*REFERENCE, *(one.rstrip("=") for one in REFERENCE)])
def test_a_secret_with_whsec_signs_as_standard_webhooks(secret: str) -> None:
    padded = next(one for one in REFERENCE if one.rstrip("=") == secret.rstrip("="))
    assert WebhookSigner(secret).headers(NAME, SECONDS, BODY) == {
        "webhook-id": NAME, "webhook-timestamp": "1764000000", "webhook-signature": REFERENCE[padded],
    }  # fmt: skip


def test_a_signature_is_of_the_name_the_time_and_the_body() -> None:
    signer = WebhookSigner(next(iter(REFERENCE)))
    others = [(NAME + "1", SECONDS, BODY), (NAME, SECONDS + 1, BODY), (NAME, SECONDS, BODY + b" ")]
    assert len({signer.headers(*one)["webhook-signature"] for one in [(NAME, SECONDS, BODY), *others]}) == 4


def test_any_other_secret_signs_as_before() -> None:
    digest = hmac.new(b"a key", b"1764000000." + BODY, hashlib.sha256).hexdigest()
    assert WebhookSigner("a key").headers(NAME, SECONDS, BODY) == {
        "X-Iot-Timestamp": "1764000000", "X-Iot-Signature": f"sha256={digest}",
    }  # fmt: skip


@pytest.mark.parametrize(
    "rest", ["", "ABC!", "ä", "A", *(base64.b64encode(bytes(size)).decode() for size in (1, 23, 65))]
)
def test_a_secret_that_cannot_be_one_is_named_and_not_quoted(rest: str) -> None:
    with pytest.raises(SettingsError, match=r"IOT_WEBHOOK_SECRET .* base64 of 24 to 64 bytes") as refused:
        WebhookSigner("whsec_" + rest)
    assert len(rest) < 5 or rest not in str(refused.value)
