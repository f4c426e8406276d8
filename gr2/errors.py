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
    """A UserError inside ends the program, and so does a disk that is full or may not be written: one line on stderr,
    exit code 2."""
    try:
        yield
    except UserError as error:
        said = " ".join(str(error).split())
    except OSError as error:
        if error.errno not in DISK:
            raise
        said = f"{error.filename or 'a file'}: {error.strerror}; make room, or take a folder that may be written"
    else:
        return
    print(f"error: {said}", file=sys.stderr)
    sys.exit(2)
