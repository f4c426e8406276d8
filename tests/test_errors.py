"""What ends a program in one line, and what does not."""

import errno

import pytest

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


def test_another_fault_is_not_hidden():
    with pytest.raises(FileNotFoundError), in_one_line():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")


def test_without_an_error_nothing_ends():
    with in_one_line():
        pass
