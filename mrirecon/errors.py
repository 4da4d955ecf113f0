"""The one error a user is meant to read."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message names the value, what was expected and what to do about it; the command line prints it without a
    traceback and ends with exit code 2.
    """


class ProcessLost(RuntimeError):
    """Another process of the same training died, or does not answer; the message says which one, and where."""
