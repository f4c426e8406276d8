"""What worker processes owe the process that started them."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From sys/prctl.h."""


def end_with_parent() -> None:
    """Have Linux kill this process when the one that started it ends, however that ends; elsewhere do nothing.

    A parent that is killed cannot tell its workers, and they would work on for nobody. (ours)
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
