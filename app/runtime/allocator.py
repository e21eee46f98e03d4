"""How memory is given back: large buffers at once, instead of being kept for later; cycles seldom, as there are few.

A response of Kafka is a buffer of up to 4 MiB. glibc learns from the first buffer that is freed to take further buffers
from its heap, among millions of small objects, and the holes they leave are too small for the next buffer. With a fixed
limit each buffer has pages of its own. Measured with full buffers (docs/memory.md): 362 MB after four minutes instead
of 398.

The limit lies above what is taken for every batch: lz4 asks for 256 KiB and a little, and mapping that anew took
140 us of the 145 that a small batch cost.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

M_MMAP_THRESHOLD = -3  # malloc.h
LARGE = 512 << 10  # bytes; larger buffers are mapped, which costs 0.1 ms a MiB and more


def give_large_buffers_back() -> bool:
    """Set the limit LARGE for this process. True: set; False: the C library has no such limit (musl, macOS)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, LARGE) == 1


def look_for_cycles_seldom() -> None:
    """Let the collector of cycles look at what is made from now on only, and after 100,000 objects instead of 700.

    To be called once a program is set up. Batches are large and free of cycles: the collector ran for nothing, for 8 %
    of the CPU of a gateway and more of a gateway that takes lines.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import within it: modules are made to stay, and to look for cycles among them, as often as objects are made, is a
    seventh of what the start of a worker costs.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
