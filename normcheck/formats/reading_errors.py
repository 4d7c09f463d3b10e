"""What a reader's error says at last: which file it is about, and what to do."""

from collections.abc import Callable

from normcheck.errors import NormcheckError, RefusedError
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.source import Source


def guarded(name: str, opened: list[Source], read: Callable[[], Checkpoint]) -> Checkpoint:
    """What ``read`` returns; where it fails, what was opened is closed and the error completed."""
    try:
        return read()
    except (MemoryError, SystemError):
        # A MemoryError may get lost on its way up, where no memory is left to record that
        # way; CPython then raises SystemError. The error that the user sees is raised
        # behind this block, which holds on to everything that was built.
        pass
    except RecursionError:
        for source in opened:
            source.close()
        deep = RefusedError("it is nested deeper than it can be followed", limit="nesting")
        complete(deep, name)
        raise deep from None
    except NormcheckError as error:
        for source in opened:
            source.close()
        complete(error, name)
        raise
    except BaseException:
        for source in opened:
            source.close()
        raise
    for source in opened:
        source.close()
    raise RefusedError(
        f"{name}: not enough memory to read it",
        "the file is enormous, damaged or made to harm; try a machine with more memory",
    )


def complete(error: NormcheckError, name: str) -> None:
    """Let the error say which file it is about, and what to do.

    Args:
        error: Of reading, now or later, when a tensor's bytes were asked for.
        name: Of the file.
    """
    if name not in error.message:
        error.message = f"{name}: {error.message}"
    # Names quoted from the file may hold anything, sequences that drive a terminal too.
    error.message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in error.message)
    error.args = (error.message,)
    if not error.hint:
        error.hint = "the file is damaged or of an unknown kind; fetch it again or save it again"
        if isinstance(error, RefusedError):
            error.hint = "no real model asks for that: the file is damaged or malicious"
            if error.limit:
                option = error.limit.replace("_", "-")
                error.hint += f"; to read it all the same, raise --limit {option}=N"
