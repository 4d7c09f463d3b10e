"""A model of a file made ready for an estimate, and what was estimated packed for the repair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from normcheck.errors import NormcheckError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.feeding.feed import device_of
from normcheck.live.loading.load_model import load
from normcheck.live.loading.model_factory import Fitting, fitting, within_place
from normcheck.live.run_request import Running
from normcheck.live.watching.forward import Forward, Interrupted, mode
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.untouched import untouched
from normcheck.repair.estimating.changed_tensors import changes_of, layer_repair
from normcheck.repair.estimating.estimate import Estimate, Tracked, tracked_norms
from normcheck.repair.repair_result import Emergency, Estimated, LayerRepair, ModelRepair, Proof
from normcheck.saved.checkpoint import Checkpoint, SavedModel

_AUTOCAST = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@lazy_dataclass(eq=False)
class Prepared:
    """A live model in eval mode, on its device, and the norms whose statistics it stores."""

    saved: SavedModel
    model: nn.Module
    device: torch.device
    forward: Forward
    regimes: Regimes
    tracked: list[Tracked]
    fit: Fitting
    notes: tuple[str, ...]
    """How the model came about."""

    def layers(self, estimate: Estimate) -> tuple[LayerRepair, ...]:
        """What changes in each norm; while the model is as it was prepared."""
        return tuple(
            layer_repair(self.tracked[n], *statistics)
            for n, statistics in estimate.statistics.items()
        )

    def repair(
        self,
        estimate: Estimate,
        layers: tuple[LayerRepair, ...],
        judged: tuple[Proof, tuple[str, ...]],
        fed: Mapping[str, str],
        emergency: Emergency | None = None,
        notes: tuple[str, ...] = (),
    ) -> ModelRepair:
        """What is to be written, and what it rests on; once the model is as it was.

        Args:
            estimate: Of the norms that change.
            layers: What :meth:`layers` gave.
            judged: The proof, and what speaks against writing.
            fed: ``source`` and ``shapes`` of what the statistics are of.
            emergency: Where they are of no data.
            notes: More than how the model came about.
        """
        changes, unwritten = changes_of(
            self.saved, self.model, self.tracked, estimate, self.fit
        )  # fmt: skip
        proof, objections = judged
        return ModelRepair(
            where=self.saved.where,
            changes=tuple(changes),
            estimated=Estimated(
                source=fed["source"],
                shapes=fed["shapes"],
                samples=estimate.samples,
                passes=estimate.rounds,
                residual=estimate.residual,
                device=str(self.device),
                layers=layers,
                proof=proof,
                objections=objections,
                emergency=emergency,
            ),
            notes=(*self.notes, *unwritten, *notes),
        )


@contextmanager
def prepared(
    checkpoint: Checkpoint,
    saved: SavedModel,
    running: Running,
    doing: str,
    fed: tuple[str, str],
) -> Iterator[Prepared]:
    """The model, in eval mode on its device, left as it was.

    Args:
        checkpoint: The file, open.
        saved: The model in it.
        running: How it is made and run.
        doing: What the progress bar calls it.
        fed: What a forward was fed that fails, and the hint for it.

    Raises:
        NormcheckError: The model cannot be made, or fails while it is in use.
    """
    loaded = load(checkpoint, saved, running.loading)
    model = loaded.module
    fit = fitting(model, saved.tensors, within_place(running.loading.prefix, saved))
    if running.loading.model and fit.problems(frozenset(n for n, _ in model.named_parameters())):
        raise NormcheckError(
            "the model of --model holds another model of the file as well, its average",
            "repair each alone: a --model that makes the one, and --where that names it",
        )
    device = device_of(running.device)
    with untouched(model):
        model.to(device)
        reached = reachable(model)
        forward = Forward(model, device, _AUTOCAST.get(running.autocast))
        with mode(model, training=False):
            try:
                yield Prepared(
                    saved,
                    model,
                    device,
                    forward,
                    Regimes(forward, reached, set(), lambda n: running.progress(doing, n)),
                    tracked_norms(reached),
                    fit,
                    loaded.notes,
                )
            except Interrupted as error:
                raise NormcheckError(f"the model fails on {fed[0]}: {error}", fed[1]) from error
