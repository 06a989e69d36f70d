"""The C library's allocator, told to keep what it has."""

import ctypes


def keep_freed_memory() -> None:
    """Let the C library keep freed memory instead of returning it to the system.

    Every update, and every step of a search, allocates and frees the same large blocks; giving them
    back costs page faults, which took nearly half of the time of a training and a fifth of a
    search. Nothing happens where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)
