"""Real workers of a real stage, and a parent that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENDLESS = """
import shop
from gr2.stages.s04_slates import Config, make_slates
make_slates(shop.corpus(), Config(k=4, folds=2, sasrec={"epochs": 10**9}), seed=0, workers=2)
"""


def below(pid: int) -> list[int]:
    """The process's children and theirs."""
    children = [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]
    return children + [grandchild for child in children for grandchild in below(child)]


def at_work(pid: int) -> bool:
    """Whether it lives and has computed for a second, more than any helper process does."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    return fields[0] != "Z" and int(fields[11]) > 100


def wait_for(what, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.2)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux'")
def test_workers_end_with_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=Path(__file__).parent)
    workers: list[int] = []
    try:
        assert wait_for(lambda: len([pid for pid in below(parent.pid) if at_work(pid)]) >= 2, 120)
        workers = [pid for pid in below(parent.pid) if at_work(pid)]
    finally:
        parent.kill()
        parent.wait()
    ended = wait_for(lambda: not any(at_work(pid) for pid in workers), 20)
    for pid in workers if not ended else ():
        os.kill(pid, signal.SIGKILL)
    assert ended
