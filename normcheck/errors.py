"""What can go wrong in a way that a user can do something about.

Every error carries one line on what happened and one on what to do next. The command
line prints the two as ``error:`` and ``hint:`` and exits with 2; anything else that
reaches the top is a bug in normcheck and is reported as one.
"""


class NormcheckError(Exception):
    """The job could not be done, for a reason outside normcheck's own code.

    Args:
        message: What happened, one line, without a final full stop.
        hint: What to do next, one line; empty where there is nothing better to say.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep both lines apart, so that every output can place them as it likes."""
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(NormcheckError):
    """A flag, a rule name or another word of the user's cannot be understood."""


class UnreadableError(NormcheckError):
    """The target is missing, damaged, or in a format that normcheck does not read."""


class UnknownFormatError(UnreadableError):
    """Nothing in the file shows that it was ever a checkpoint of any kind."""


class RefusedError(UnreadableError):
    """The file asks for more than the limits allow; reading it on could be an attack.

    Args:
        message: What it asks for.
        hint: What to do next.
        limit: Name of the limit that it passes, as ``Limits`` has it, where there is one.
    """

    def __init__(self, message: str, hint: str = "", *, limit: str = "") -> None:
        """Keep the limit's name, for the hint on how to raise it."""
        super().__init__(message, hint)
        self.limit = limit


class NoModelError(UnreadableError):
    """The file was read, and there is no model in it."""

    found: object = None
    """What else is, which may bear on a model in another file: an optimizer's state."""


class NoValuesError(NormcheckError):
    """A live model whose tensors have no values (meta device, a trace), so that it cannot run."""


class DamagedError(Exception):
    """Bytes of another process, or of a cache, that stand for no value of the type asked for."""


class ConfigError(UsageError):
    """A configuration file is broken, or says something that has no meaning."""


class GuardError(NormcheckError):
    """A training loop does what no healthy one does, and its guard is strict."""


class GuardWarning(UserWarning):
    """A training loop does what no healthy one does; said once, at the line that does it."""
