"""What the allocator keeps of memory that was freed."""

import ctypes


def give_back_freed() -> None:
    """Return freed memory to the system.

    glibc does so by itself only where nothing in use lies behind it: what Pillow took to decode a large image stays,
    4 bytes a pixel, as long as anything else lives. Elsewhere than on glibc nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
