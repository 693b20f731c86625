"""The two ways a step ends badly: the user's mistake, and a failure of the work itself."""


class UserError(Exception):
    """A mistake that the user can mend. The text is one line: what is wrong, where, and what to do. Exit code 2."""


class WorkFailed(Exception):
    """The work could not be done although the input was right. The text is one line. Exit code 1."""
