"""What the benchmarks of ids share: sizes on the command line, and where a result comes from."""

import platform
import sys
import time


def number(text: str) -> int:
    """10k, 1M and plain numbers."""
    return int(float(text.rstrip("kM")) * {"k": 1_000, "M": 1_000_000}.get(text[-1], 1))


def origin(module: str) -> dict[str, str]:
    """Machine, command and date of a run of `module`, one thread."""
    return {
        "machine": f"{platform.machine()}, {platform.system()}, one thread",
        "command": " ".join([f"python -m benchmarks.{module}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
    }
