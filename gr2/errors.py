"""The one kind of error that a user can cause: what, where, how to mend, in one line."""


class UserError(Exception):
    """Something in the user's data, config or run folder is wrong.

    The message is one line: what is wrong, where (file, row), and how to mend it. The command line
    prints it without a traceback and exits with code 2.
    """
