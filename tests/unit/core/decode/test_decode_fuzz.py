"""No bytes make decoding raise, and what it accepts it keeps exactly. tests/pipeline runs 200,000."""

from app.core.model.records import Reason
from tests.unit.fuzz import run

COUNT = 8_000
# Reasons of the payload itself; all other reasons are of the record around it.
OF_PAYLOADS = set(Reason) - {
    *(Reason.PAYLOAD_TOO_LARGE, Reason.KEY_TOO_LONG, Reason.UNKNOWN_TOPIC, Reason.UNSUPPORTED_KIND),
    *(Reason.INVALID_RULES, Reason.INVALID_COMMAND, Reason.REFUSED_BY_DATABASE, Reason.RATE_LIMITED, Reason.BAD_ID),
    Reason.SINK_REFUSED,
}


def test_broken_payloads() -> None:
    outcomes = run(COUNT, seed=1)
    assert outcomes.total() == COUNT
    # The fuzz reaches what it is for: a good part is accepted, and every reason a payload can have is met.
    assert outcomes["reading"] > COUNT / 10
    assert set(outcomes) - {"reading"} == OF_PAYLOADS, OF_PAYLOADS - set(outcomes)
