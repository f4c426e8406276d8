"""What the C library does with freed memory."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST, LARGEST_OF_OLD = 2**31 - 1, 32 * 2**20
"""Bytes; older glibc refuses a mapping threshold above 32 MiB."""


def keep_freed_memory() -> None:
    """Have glibc keep freed tensors for the next ones of this process instead of handing them back to the kernel.

    A training step frees and asks for the same megabytes again; each time the kernel would have to clear every
    page of them. Costs nothing but that memory stays at its peak. Does nothing where there is no glibc. (ours)
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        _ = libc.mallopt(M_MMAP_THRESHOLD, LARGEST) or libc.mallopt(M_MMAP_THRESHOLD, LARGEST_OF_OLD)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
