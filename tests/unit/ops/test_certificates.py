"""When the files of connections end: the program's own certificate, and of CAs the one that lasts longest."""

from datetime import UTC, datetime
from pathlib import Path

import trustme

from app.ops.certificates import CERTIFICATE_EXPIRY, report
from app.settings import Settings

UNTIL = datetime(2031, 2, 3, tzinfo=UTC)


def reported() -> dict[tuple[str, str], float]:
    (family,) = CERTIFICATE_EXPIRY.collect()
    return {(sample.labels["connection"], sample.labels["file"]): sample.value for sample in family.samples}


def test_each_file_of_a_connection_has_its_end(tmp_path: Path) -> None:
    ca = trustme.CA()
    made = ca.issue_cert("iot-worker", not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=UNTIL)
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes() + ca.cert_pem.bytes())
    (tmp_path / "own.pem").write_bytes(made.private_key_and_cert_chain_pem.bytes())
    CERTIFICATE_EXPIRY.clear()
    try:
        settings = Settings(
            _env_file=None, kafka_security_protocol="SSL", kafka_ca_file=tmp_path / "ca.pem",
            kafka_certificate_file=tmp_path / "own.pem", mqtt_tls=True, mqtt_ca_file=tmp_path / "ca.pem",
        )  # fmt: skip
        report(settings)
        found = reported()
        assert set(found) == {("kafka", "ca"), ("kafka", "certificate"), ("mqtt", "ca")}
        assert found["kafka", "certificate"] == UNTIL.timestamp()
        assert found["kafka", "ca"] > datetime.now(UTC).timestamp()
        (tmp_path / "ca.pem").unlink()
        report(settings)
        assert reported() == found, "what was read at the start"
    finally:
        CERTIFICATE_EXPIRY.clear()


def test_nothing_is_reported_of_what_is_not_encrypted() -> None:
    report(Settings(_env_file=None))
    assert reported() == {}
