"""How a file is run where the configuration has a say in it, and what the user is told of that."""

from normcheck.config.examination import Examination, HeldBack
from normcheck.errors import UsageError
from normcheck.live.run_request import Running
from normcheck.sources.place import Place


def configured_run(file: Place | str, examination: Examination) -> Running | HeldBack | None:
    """How a file is run. Says which code of the configuration's runs, or would."""
    asked, running = examination.running, examination.running_of(file)
    if isinstance(running, HeldBack) and asked is not None:
        asked.announce(f"not run: {running.why} (--trust-config allows it)")
    entry = examination.of_model(file)
    if isinstance(running, Running) and entry is not None and asked is not None:
        code = entry.code(asked)
        if code:
            asked.announce(f"--trust-config: {entry.file} has {code} imported and run")
    return running


def indispensable_run(file: Place | str, examination: Examination) -> Running | None:
    """How a file is run of which nothing is left without the run.

    Args:
        file: The file.
        examination: How to run it, and what the configuration says of it.

    Raises:
        UsageError: The configuration names code that nobody allowed to be imported.
    """
    held = examination.running_of(file)
    if isinstance(held, HeldBack):
        raise UsageError(f"not run: {held.why}", "--trust-config allows it")
    found = configured_run(file, examination)
    return found if isinstance(found, Running) else examination.running
