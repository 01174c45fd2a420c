"""Memory that was freed and is wanted again at the next update."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""

LARGE = 1 << 30
"""Bytes."""


def keep_freed_memory() -> bool:
    """Has freed memory stay with this process instead of going back to the system.

    An update takes and frees the same large tensors as the last one. glibc takes each of them from
    the system and gives it back, which then fills every page with zeros when it is first touched:
    that costs more than most operations that write there.

    Returns:
        Whether it is so now; False where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(name, LARGE) == 1 for name in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
