from app.loadtest.tracers import Tracer
from app.runtime.tracing.context import parse
from app.runtime.tracing.tracing import NO_TRACING
from tests.unit.loadtest.world import plan


def test_a_share_of_the_readings_carries_a_context_that_is_sampled() -> None:
    tracer = Tracer(plan(), NO_TRACING, 0.25)
    found = [one for sequence in range(4000) if (one := tracer.begin(0, sequence, 100))]
    assert 800 < len(found) < 1200
    contexts = [parse(one.properties[-55:]) for one in found]
    assert all(context and context.sampled for context in contexts)
    assert len({context.trace_id for context in contexts if context}) == len(found)


def test_none_does_where_none_shall() -> None:
    tracer = Tracer(plan(), NO_TRACING, 0.0)
    assert [tracer.begin(0, sequence, 100) for sequence in range(100)] == [None] * 100
