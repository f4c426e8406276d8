"""What ends a program in one line, and what does not."""

import errno

import pytest
import torch

from gr2.errors import UserError, in_one_line


def ended(raised, capsys):
    with pytest.raises(SystemExit) as end, in_one_line():
        raise raised
    assert end.value.code == 2
    return capsys.readouterr().err


def test_a_user_error_is_one_line(capsys):
    assert ended(UserError("log.csv:\n  no rows"), capsys) == "error: log.csv: no rows\n"


def test_so_is_a_full_disk(capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "runs/a/model")
    assert ended(full, capsys) == (
        "error: runs/a/model: No space left on device; make room, or take a folder that may be written\n"
    )


def test_so_is_a_gpu_without_room(capsys):
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 1.00 GiB")
    assert ended(full, capsys) == (
        "error: no room on the GPU (CUDA out of memory); lower the stage's batch_size and run again, or stay on the "
        "CPU with CUDA_VISIBLE_DEVICES= (empty)\n"
    )


@pytest.mark.parametrize("fault", [FileNotFoundError(errno.ENOENT, "No such file", "x"), RuntimeError("shapes differ")])
def test_another_fault_is_not_hidden(fault):
    with pytest.raises(type(fault)), in_one_line():
        raise fault


def test_without_an_error_nothing_ends():
    with in_one_line():
        pass
