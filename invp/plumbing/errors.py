"""The one exception for a user's mistake."""


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback and exits with 2."""
