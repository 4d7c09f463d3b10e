"""Settings on their way to another process: without what belongs to this one."""

import pickle
from dataclasses import replace

from normcheck.config.settings import Settings
from normcheck.errors import NormcheckError
from normcheck.live.run_request import Running


def sent(settings: Settings) -> bytes:
    """The settings as another process takes them.

    Raises:
        NormcheckError: They hold something that cannot leave this process.
    """
    running = settings.running
    if running is not None:
        silent = Running()
        running = replace(running, progress=silent.progress, announce=silent.announce)
    # Ignores and the baseline are applied here, to what comes back.
    plain = replace(settings, running=running, layer_ignores=(), baseline=None)
    try:
        return pickle.dumps(plain)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise NormcheckError(
            f"the settings cannot be handed to another process: {error}",
            "name data and factories as texts (package.module:function), or use one job",
        ) from error
