"""Freed memory stays with the process, so that a step does not ask the system for the same pages again.

glibc gives blocks of 32 MiB and more, and what is free at the heap's end, back to the system at once; the next step maps and
clears the same pages one fault at a time: 10,000 to 30,000 faults a micro-batch at nano and micro (docs/experiments.md).
mallopt(3) documents the two parameters.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = -1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; whether it could be told (other C libraries are left alone).

    The process's memory then stays at its peak, until `give_back_freed_memory`. Lasts until the process ends; telling it
    again changes nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


def give_back_freed_memory() -> None:
    """Give the system once what is free by now, as malloc_trim(3) does; what is freed from here on is kept as before."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
