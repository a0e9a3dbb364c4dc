"""The exceptions that the command line answers with a line and a code of its own."""

AGAIN = "then start again"  # ends the message of what another try of the same job may mend


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback and exits with 2."""


class Stopped(Exception):
    """Raised by a job that was asked to end and has saved where it is; the command line exits with 75, and the next start goes on."""
