"""From words to an exit code: the one place where errors become one."""

import errno
import os
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from normcheck.cli.screen.error_messages import report_error
from normcheck.errors import NormcheckError, UsageError
from normcheck.version import LINE
from normcheck.wording import printable

NOT_DONE = 2
"""Exit code: the job could not be done."""
_NEEDED = ("numpy", "rich", "typer", "junitparser")
"""What is installed with normcheck; missing where its folder alone was copied or put on a path."""
_FIRST_FREE = 3
"""Descriptor after stdin, stdout and stderr."""
_LISTS = ("--select", "--ignore")
"""Flags that may be given nothing: a variable without rules in it."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: Words after the program's name; ``sys.argv`` where None.
    """
    words = sys.argv[1:] if arguments is None else arguments
    _prepare_streams()
    try:
        return _answer(words)
    finally:
        _settle_stdout()


def _answer(words: list[str]) -> int:
    try:
        code = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is an error while we can still say so
        return code
    except NormcheckError as error:
        if _by_interruption(error):
            return _interrupted()
        report_error(error.message, error.hint)
        return NOT_DONE
    except BrokenPipeError:
        return _enough()
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as error:
        # Shell completion ends this way. Anything else that wants to end the process must not
        # choose a code that means something.
        if _completing() and isinstance(error.code, int):
            return error.code
        if isinstance(error.__context__, BrokenPipeError):  # Typer turns it into an exit
            return _enough()
        report_error("something ended the run from within", "run again with -vv for the details")
        if _wants_traceback(words):
            _print_traceback(error)
        return NOT_DONE
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            return _crashed(error, words)
        report_error(
            f"normcheck needs the package {error.name}, which this Python does not have",
            f"{sys.executable} -m pip install normcheck",
        )
        return NOT_DONE
    except Exception as error:  # the last net: no path by which a crash looks like 0 or 1
        if _by_interruption(error):
            return _interrupted()
        return _no_room(error) or _crashed(error, words)


def _prepare_streams() -> None:
    """Make stdin, stdout and stderr usable, in whatever state we were given them."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _without_streams()
    # Signs that the terminal's encoding lacks become question marks, not a crash.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def _settle_stdout() -> None:
    """Leave nothing in stdout's buffer: Python would try it once more, and exit with 120."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):  # ValueError: closed; AttributeError: None
        from normcheck.writing.streams import discard_stdout

        with suppress(OSError, ValueError, AttributeError):
            discard_stdout()


def _without_streams() -> None:
    """Make up for what is closed, as after ``2>&-``.

    A file that is opened later must not get the number of stdout or stderr, where native code
    would write into it; and errors have an exit code though nobody sees them.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) < _FIRST_FREE:
        pass
    os.close(opened)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (until the end)


def _interrupted() -> int:
    report_error("interrupted", "")
    return INTERRUPTED


def _by_interruption(error: BaseException) -> bool:
    """Whether an error is Ctrl-C in disguise: what it interrupted may have wrapped it.

    So does Typer, in some versions, and Python before 3.12 where a class is being made.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _enough() -> int:
    """Whoever read the output has enough of it (normcheck scan … | head): not a word."""
    from normcheck.writing.streams import discard_stdout

    discard_stdout()
    return NOT_DONE


def _no_room(error: Exception) -> int:
    """Report a full disk that no flag names; 0 where that is not what happened."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if not isinstance(error, OSError) or error.errno not in full:
        return 0
    from normcheck.writing.write_errors import cannot

    said = cannot(str(error.filename or "stdout, or a temporary file"), error)
    report_error(said.message, said.hint)
    return NOT_DONE


def _dispatch(words: list[str]) -> int:
    if words in (["--version"], ["-V"]):  # a third of the time that Typer's import takes
        print(LINE)  # noqa: T201  # says nothing where stdout is closed
        return 0
    if words and not _completing():
        _none_empty(words)
        from normcheck.cli.flags.command_flags import NAMES, command
        from normcheck.cli.perform import perform
        from normcheck.cli.quick_parser import quickly

        asked = quickly(command(words[0]), words[1:]) if words[0] in NAMES else None
        if asked is not None:
            return perform(asked)
        from normcheck.cli.flags.suggestions import check_command

        check_command(words[0])
    import typer

    from normcheck.cli.app import app

    try:
        result = app(args=words, prog_name="normcheck", standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    if result == INTERRUPTED:  # Typer's, of Ctrl-C: it is silent about it
        return _interrupted()
    return result if isinstance(result, int) else 0


def _none_empty(words: list[str]) -> None:
    """Take no empty word for the current folder, or for a flag that was not given.

    Raises:
        UsageError: There is one, but as a list of rules, which may be empty.
    """
    for before, word in pairwise(["", *words]):
        flag, equals, value = word.partition("=")
        if word and not (flag.startswith("--") and equals and not value):
            continue
        if (flag or before) not in _LISTS:
            named = f" after {flag or before}" if (flag or before).startswith("-") else ""
            raise UsageError(
                f"an empty word{named}", "is the variable set? the current folder is a dot"
            )


def _completing() -> bool:
    return "_NORMCHECK_COMPLETE" in os.environ


def _crashed(error: Exception, words: list[str]) -> int:
    # Usage errors are the parser's own and know what they have to say.
    show = getattr(error, "show", None)
    if type(error).__name__ == "NoArgsIsHelpError" and callable(show):
        show()
        return NOT_DONE
    says = getattr(error, "format_message", None)
    if callable(says) and hasattr(error, "exit_code"):
        if str(says()):
            report_error(_sentence(str(says())), _where_to_look(error))
        return NOT_DONE
    report_error(
        f"normcheck itself failed: {type(error).__name__}: {error}",
        "this is a bug in normcheck; run again with -vv for the details and report it",
    )
    if _wants_traceback(words):
        _print_traceback(error)
    return NOT_DONE


def _print_traceback(error: BaseException) -> None:
    import traceback

    lines = "".join(traceback.format_exception(error)).splitlines()
    sys.stderr.writelines(f"{printable(line)}\n" for line in lines)


def _sentence(text: str) -> str:
    """A message of the parser in the form of ours: no capital, no full stop, one line."""
    line = " ".join(text.split()).removesuffix(".")
    return line[:1].lower() + line[1:]


def _where_to_look(error: Exception) -> str:
    from normcheck.cli.flags.suggestions import renamed

    hint = renamed(str(getattr(error, "option_name", "")))
    if hint:
        return hint
    context = getattr(error, "ctx", None)
    return f"see '{getattr(context, 'command_path', 'normcheck')} --help'"


def _wants_traceback(words: list[str]) -> bool:
    """Whether the words ask for it: the flags may be what could not be parsed."""
    count = 0
    for word in words:
        if word == "--verbose":
            count += 1
        elif word.startswith("-") and not word.startswith("--"):
            count += word.count("v")
    return count > 1
