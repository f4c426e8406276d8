"""The one kind of error that a user can cause: what, where, how to mend, in one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something in the user's data, config or run folder is wrong.

    The message is one line: what is wrong, where (file, row), and how to mend it. The command line
    prints it without a traceback and exits with code 2.
    """


@contextmanager
def in_one_line() -> Iterator[None]:
    """A UserError inside ends the program: one line on stderr, exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
