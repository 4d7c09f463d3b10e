"""Where the models of a file run: in this process, or in one of their own. Without torch."""

from collections.abc import Sequence

from normcheck.live.process.run_outcome import Outcome
from normcheck.live.run_request import Running
from normcheck.live.torch_there import require_torch
from normcheck.norms.anatomy import Anatomy
from normcheck.saved.checkpoint import Checkpoint, Form
from normcheck.sources.limits import Limits


def ran(
    checkpoint: Checkpoint, anatomies: Sequence[Anatomy], running: Running, limits: Limits
) -> list[Outcome]:
    """What became of each model, run here or in a process of its own.

    Raises:
        UsageError: torch is not installed; it is imported here and not before.
    """
    modules = any(m.form in (Form.MODULE, Form.TORCHSCRIPT) for m in checkpoint.models)
    if running.loading.trust and not running.loading.model and modules:
        from normcheck.live.loading.trusted_code import what_runs

        running.announce(what_runs(checkpoint))
    require_torch("running a model")
    if running.isolation is not None:
        from normcheck.live.process.isolated_run import run_isolated

        return run_isolated(checkpoint, anatomies, running, running.isolation, limits)
    from normcheck.live.process.run_saved import run_saved

    return run_saved(checkpoint, anatomies, running)
