"""A compressed body -> what it holds, within a bound; never more memory than that, however small the body is."""

import zlib
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import zstandard

# Most members of one gzip body: senders that flush make a few, and an empty one of 20 bytes costs 3 us.
MEMBERS = 64
WINDOW_BYTES = 8 << 20  # what a frame of zstd may ask to be kept while it is inflated: RFC 8878 has all take 8 MiB
_GZIP = 16 + zlib.MAX_WBITS


class Inflation(Enum):
    """What keeps a body from being inflated."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"


class NotInflated(NamedTuple):
    """Why there is nothing."""

    why: Inflation
    detail: str


def gunzip(body: bytes, most: int) -> bytes | NotInflated:
    """The members of a gzip body, together, at most `most` bytes; or why there is nothing. Never raises."""
    parts: list[bytes] = []
    size = 0
    for _ in range(MEMBERS):
        inflater = zlib.decompressobj(_GZIP)
        try:
            part = inflater.decompress(body, most - size + 1)
        except zlib.error as error:
            return NotInflated(Inflation.MALFORMED, f"the body is no gzip: {error}")
        size += len(part)
        if size > most:
            return _too_large(most)
        parts.append(part)
        if not inflater.eof:
            return NotInflated(Inflation.MALFORMED, "the body is no gzip: it ends too soon")
        body = inflater.unused_data
        if not body:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    return NotInflated(Inflation.MALFORMED, f"the body is gzip of more than {MEMBERS} members")


def unzstd(body: bytes, most: int) -> bytes | NotInflated:
    """The content of the one frame of a zstd body, at most `most` bytes; or why there is nothing. Never raises."""
    try:
        said = zstandard.frame_content_size(body)
        if said > most:
            return _too_large(most)
        if said >= 0:  # libzstd fails when the frame holds more, or less
            return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        return _streamed(body, most)
    except zstandard.ZstdError as error:
        return NotInflated(Inflation.MALFORMED, f"the body is no frame of zstd: {error}")


def _streamed(body: bytes, most: int) -> bytes | NotInflated:
    """A frame that does not say how much it holds. Raises ZstdError."""
    with zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(body) as reader:
        if len(found := reader.read(most + 1)) > most:
            return _too_large(most)
    # The reader takes a frame that is cut short for a whole one. What is known to be small may be inflated once more.
    end = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()
    end.decompress(body)
    if not end.eof or end.unused_data:
        return NotInflated(Inflation.MALFORMED, "the body is no frame of zstd: it ends too soon, or more follows it")
    return found


def _too_large(most: int) -> NotInflated:
    return NotInflated(Inflation.TOO_LARGE, f"the body holds more than {most} bytes once it is inflated")


CODINGS: dict[str, Callable[[bytes, int], bytes | NotInflated]] = {"gzip": gunzip, "x-gzip": gunzip, "zstd": unzstd}
