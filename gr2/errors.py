"""The one kind of error that a user can cause: what, where, how to mend, in one line."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the user's disk answers, and no fault of a program."""


class UserError(Exception):
    """Something in the user's data, config or run folder is wrong.

    The message is one line: what is wrong, where (file, row), and how to mend it. The command line
    prints it without a traceback and exits with code 2.
    """


@contextmanager
def in_one_line() -> Iterator[None]:
    """A UserError inside ends the program: one line on stderr, exit code 2. So do a disk that is full or may not be
    written, and a GPU without room."""
    try:
        yield
    except UserError as error:
        said = " ".join(str(error).split())
    except OSError as error:
        if error.errno not in DISK:
            raise
        said = f"{error.filename or 'a file'}: {error.strerror}; make room, or take a folder that may be written"
    except RuntimeError as error:
        if "torch" not in sys.modules or not isinstance(error, sys.modules["torch"].OutOfMemoryError):
            raise
        said = (
            f"no room on the GPU ({str(error).partition('.')[0]}); lower the stage's batch_size and run again, or stay "
            "on the CPU with CUDA_VISIBLE_DEVICES= (empty)"
        )
    else:
        return
    print(f"error: {said}", file=sys.stderr)
    sys.exit(2)
