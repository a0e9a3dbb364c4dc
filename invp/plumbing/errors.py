"""The one exception for a user's mistake."""

AGAIN = "then start again"  # ends the message of what another try of the same job may mend


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback and exits with 2."""
