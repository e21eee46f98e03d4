"""Fixtures of all tests of tracing."""

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """What a test leaves hanging would count its drops into the next one's."""
    yield
    for thread in threading.enumerate():
        if thread.name == "trace-export":
            thread.join(15)
            assert not thread.is_alive()
