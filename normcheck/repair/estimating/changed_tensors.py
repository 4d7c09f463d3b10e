"""From estimated statistics to the tensors of a file that change by them."""

from collections.abc import Mapping
from dataclasses import field

import numpy as np
import torch
from torch import nn

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.loading.model_factory import Fitting
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import NormLayer
from normcheck.repair.batch_counts import COUNT, outdated_count
from normcheck.repair.editing.named_tensors import all_tensors, joined
from normcheck.repair.estimating.estimate import Estimate, Tracked
from normcheck.repair.repair_result import LayerRepair, TensorEdit
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.dtypes import Array
from normcheck.saved.tensors import TensorRef
from normcheck.wording import fold, plural


def layer_repair(norm: Tracked, mean: torch.Tensor, variance: torch.Tensor) -> LayerRepair:
    """How far the statistics of one norm move."""
    old_mean, old_variance = norm.mean.double().cpu(), norm.variance.double().cpu()
    shift = ((mean - old_mean).abs() / variance.clamp_min(1e-30).sqrt()).numpy()
    with np.errstate(all="ignore"):
        factor = (variance / old_variance).numpy()
    return LayerRepair(norm.path, _median(shift), _median(factor))


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def changes_of(
    saved: SavedModel, model: nn.Module, tracked: list[Tracked], estimate: Estimate, fit: Fitting
) -> tuple[list[TensorEdit], list[str]]:
    """New values for the tensors of the file, under every name that the file has for them."""
    known = all_tensors(saved)
    anatomy = {layer.path: layer for layer in anatomy_of(saved, judge_links=False).layers}
    aliases: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        aliases.setdefault(id(module), []).append(path)
    found = _Found()
    for number, statistics in estimate.statistics.items():
        norm = tracked[number]
        places = [place_in_file(path, fit) for path in aliases.get(id(norm.module), [norm.path])]
        there = [p for p in places if joined(p, "running_mean") in known]
        if not there and not norm.registered:
            found.outside.append(norm.path)
            continue
        for place in there or places[:1]:
            found.take(place, known, anatomy.get(place), statistics, norm)
    return found.changes, found.notes()


def place_in_file(path: str, fit: Fitting) -> str:
    """The path of a module of the model in the names of the file."""
    below = f"{path}." if path else ""
    return (fit.prefix + below.removeprefix(fit.own_prefix)).removesuffix(".")


@lazy_dataclass(frozen=False)
class _Found:
    """The changes of one model, and what has to be said of them."""

    changes: list[TensorEdit] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    recounted: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def take(
        self,
        place: str,
        known: Mapping[str, TensorRef],
        layer: NormLayer | None,
        statistics: tuple[torch.Tensor, torch.Tensor],
        norm: Tracked,
    ) -> None:
        """Note the new tensors of one layer."""
        for name, values in zip(("running_mean", "running_var"), statistics, strict=True):
            full = joined(place, name)
            self.changes.append(TensorEdit(full, known.get(full), values.numpy()))
        full = joined(place, COUNT)
        count, zero = known.get(full), np.zeros((), dtype=np.int64)
        if any(change.ref is None for change in self.changes[-2:]):
            self.added.append(place)
            if count is None and norm.module._buffers.get(COUNT) is not None:  # noqa: SLF001
                self.changes.append(TensorEdit(full, None, zero, whole_numbers=True))
        if count is not None and outdated_count(layer, count):
            self.recounted.append(place)
            self.changes.append(TensorEdit(full, count, zero))

    def notes(self) -> list[str]:
        """What a user should know."""
        notes = []
        if self.added:
            notes.append(f"statistics that the file lacked are added: {fold(self.added)}")
        if self.recounted:
            notes.append(
                f"batch counts set to 0 in {plural(len(self.recounted), 'layer')}: they told of "
                "the statistics before, and would make these look under-warmed"
            )
        if self.outside:
            notes.append(
                f"norms outside of the registered modules are not in the file: {fold(self.outside)}"
            )
        return notes
