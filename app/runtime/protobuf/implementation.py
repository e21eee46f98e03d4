"""Which implementation of protobuf is in use: asked when a program starts that reads or writes messages."""

from google.protobuf.internal import api_implementation

from app.errors import PermanentError

FAST = "upb"  # in C; where upb is missing protobuf silently takes its implementation in Python


def require_upb(implementation: str | None = None) -> None:
    """Return when messages are read in C. Raises PermanentError, which says how to get there, when they are not.

    `implementation` is the name to judge; None: that of the implementation in use.
    """
    found = implementation or api_implementation.Type()
    if found != FAST:
        raise PermanentError(
            f"protobuf runs as {found!r}, which is far slower than {FAST!r}: install its wheel for this platform, "
            "and leave PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION unset"
        )
