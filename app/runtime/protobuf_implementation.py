"""Which implementation of protobuf is in use: asked when a program starts that reads or writes messages."""

from google.protobuf.internal import api_implementation

from app.errors import PermanentError

FAST = "upb"  # reads a message in 0.1 us; the one in Python alone, which is taken where it is missing, in some hundred


def require_upb(implementation: str | None = None) -> None:
    """Return when messages are read in C. Raises PermanentError that says what is wrong.

    `implementation` stands for the one in use, which None asks for.
    """
    found = implementation or api_implementation.Type()
    if found != FAST:
        raise PermanentError(
            f"protobuf runs as {found!r}, a hundred times slower than {FAST!r}: install its wheel for this platform, "
            "and leave PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION unset"
        )
