"""How well foreign-stats (NC108) tells statistics that do not belong to their weights.

Takes healthy checkpoints, puts faults of graded strength into copies of them in memory, and
prints how many are detected, how many untouched ones are accused, and the area under the ROC
curve of the strongest single signal (1 is perfect, 0.5 is guessing).

    python benchmarks/foreign_stats.py [FOLDER or FILE ...] [--seeds N] [--verbose]

By default the healthy sample models. Checkpoints of one training run in a folder (same names
and shapes) are also paired: statistics of each under the weights of the others, and the
average of their weights with the statistics of the last.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from normcheck.errors import NormcheckError  # noqa: E402
from normcheck.formats.read_checkpoint import read_checkpoint  # noqa: E402
from normcheck.formats.targets import expand  # noqa: E402
from normcheck.norms.anatomy import Anatomy  # noqa: E402
from normcheck.norms.find_norms import anatomy_of  # noqa: E402
from normcheck.rules.evidence import mismatch_causes as mismatch  # noqa: E402
from normcheck.rules.rule import CannotTell, Subject  # noqa: E402
from normcheck.rules.statistics import foreign_stats  # noqa: E402
from normcheck.saved.checkpoint import Form, SavedModel  # noqa: E402
from normcheck.saved.dtypes import BY_NAME  # noqa: E402
from normcheck.saved.tensors import (  # noqa: E402
    PlainRegion,
    Storage,
    TensorRef,
    contiguous_strides,
)
from normcheck.sources.source import MemorySource  # noqa: E402

Tensors = dict[str, npt.NDArray[np.float64]]
Fault = Callable[[Tensors, np.random.Generator], Tensors]
DEFAULT = [
    str(ROOT / "sample_models" / name)
    for name in ("digits-healthy.pt", "digits-healthy-module.pt", "digits-checkpoint.ckpt")
]


@dataclass(frozen=True)
class Verdict:
    """What the rule said of one model, and the strongest signal it had."""

    cause: str | None
    suspicion: float


def load(path: str) -> Iterator[tuple[str, Tensors]]:
    """The models of a checkpoint as float64 arrays, in their order."""
    for target in expand([path]):
        checkpoint = read_checkpoint(target.path)
        for model in checkpoint.models:
            if model.ordered:
                tensors = {
                    name: np.array(tensor.values(), dtype=np.float64)
                    for name, tensor in model.tensors.items()
                    if tensor.readable
                }
                yield f"{target.path.name} {model.where}".strip(), tensors
        checkpoint.close()


def in_memory(tensors: Tensors) -> SavedModel:
    """A state dict that was never a file."""
    references = {}
    for name, array in tensors.items():
        data = np.ascontiguousarray(array, dtype="<f8").tobytes()
        region = PlainRegion(MemorySource(data, name), 0, len(data))
        storage = Storage(name, BY_NAME["float64"], len(data), region=region)
        strides = contiguous_strides(array.shape)
        references[name] = TensorRef(storage.dtype, array.shape, strides, 0, storage)
    return SavedModel("", Form.STATE_DICT, references)


def judge(tensors: Tensors) -> Verdict | None:
    """The rule's verdict; None where it says that it cannot tell."""
    anatomy = anatomy_of(in_memory(tensors))
    try:
        findings = list(foreign_stats.check(Subject(anatomy)))
    except CannotTell:
        return None
    return Verdict(findings[0].discriminator if findings else None, suspicion(anatomy))


def suspicion(anatomy: Anatomy) -> float:
    """The strongest of the signals that the rule combines, about 0 to 1."""
    agreement = anatomy.agreement
    fits = agreement.likely if agreement else ()
    if not fits:
        return 0.0
    least = np.array([fit.stored_variance.min() for fit in fits])
    floor = max(least.min(), 0.0) / max(float(np.median(least)), 1e-12)
    scale = float(np.median([fit.log_scale for fit in fits])) - mismatch.USUAL_LOG_SCALE
    return max(
        1.0 - float(np.median([fit.correlation for fit in fits])),
        min(abs(scale) / 3.0, 1.0),
        floor if mismatch.FLOOR <= least.min() < 1 else 0.0,
    )


# ---- faults -----------------------------------------------------------------------------


def norms(tensors: Tensors) -> list[str]:
    """Paths of the layers with both statistics."""
    paths = [n.removesuffix("running_mean") for n in tensors if n.endswith("running_mean")]
    return [path for path in paths if f"{path}running_var" in tensors]


def on_statistics(
    change: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], tuple[object, object]],
) -> Fault:
    """A fault that changes mean and variance of every layer in the same way."""

    def fault(tensors: Tensors, _rng: np.random.Generator) -> Tensors:
        changed = dict(tensors)
        for path in norms(tensors):
            mean, variance = change(tensors[f"{path}running_mean"], tensors[f"{path}running_var"])
            changed[f"{path}running_mean"] = np.asarray(mean)
            changed[f"{path}running_var"] = np.asarray(variance)
        return changed

    return fault


def permuted(share: float) -> Fault:
    """Channels of a share of the layers mixed up, mean and variance together."""

    def fault(tensors: Tensors, rng: np.random.Generator) -> Tensors:
        changed = dict(tensors)
        paths = norms(tensors)
        for path in rng.permutation(paths)[: max(1, round(share * len(paths)))]:
            order = rng.permutation(tensors[f"{path}running_mean"].size)
            for leaf in ("running_mean", "running_var"):
                changed[f"{path}{leaf}"] = tensors[f"{path}{leaf}"][order]
        return changed

    return fault


def of_another_layer(tensors: Tensors, rng: np.random.Generator) -> Tensors:
    """Each layer gets the statistics of another of its size; alone of its size, it is mixed up."""
    changed = dict(tensors)
    for path in norms(tensors):
        size = tensors[f"{path}running_mean"].size
        same = [p for p in norms(tensors) if tensors[f"{p}running_mean"].size == size and p != path]
        giver = str(rng.choice(same)) if same else path
        order = np.arange(size) if same else rng.permutation(size)
        for leaf in ("running_mean", "running_var"):
            changed[f"{path}{leaf}"] = tensors[f"{giver}{leaf}"][order]
    return changed


def weights_moved(distance: float) -> Fault:
    """Every weight matrix moved by a share of its own length in a random direction."""

    def fault(tensors: Tensors, rng: np.random.Generator) -> Tensors:
        changed = dict(tensors)
        for name, value in tensors.items():
            if value.ndim >= 2:
                step = rng.normal(size=value.shape)
                length = np.linalg.norm(value) / max(float(np.linalg.norm(step)), 1e-12)
                changed[name] = value + distance * length * step
        return changed

    return fault


RANDOM = frozenset({"channels permuted", "statistics of another layer", "weights moved"})
"""Faults that are repeated with several seeds."""


def faults() -> Iterator[tuple[str, str, Fault]]:
    """Name, strength, and the fault."""
    for share in (0.25, 0.5, 1.0):
        yield "channels permuted", f"{share:.0%} of the layers", permuted(share)
    yield "statistics of another layer", "all layers", of_another_layer
    yield "mean and variance swapped", "all layers", on_statistics(lambda m, v: (v, m))
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        yield (
            "initial value left",
            f"{share:.0%}",
            on_statistics(lambda m, v, a=share: ((1 - a) * m, (1 - a) * v + a)),
        )
    for factor in (0.25, 1 / 3, 0.5, 0.7, 1.4, 2.0, 3.0, 4.0):
        yield (
            "common factor",
            f"× {factor:.2f}",
            on_statistics(lambda m, v, k=factor: (k * m, k * k * v)),
        )
    for factor in (0.1, 0.5):
        yield (
            "buffers decayed",
            f"to {factor:.0%}",
            on_statistics(lambda m, v, k=factor: (k * m, k * v)),
        )
    for distance in (0.1, 0.3, 1.0, 3.0):
        yield "weights moved", f"by {distance:.0%} of their length", weights_moved(distance)


def series(models: dict[str, Tensors]) -> Iterator[tuple[str, str, Tensors]]:
    """Faults from checkpoints of one run: name, strength, and the faulty model."""
    runs: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, tensors in models.items():
        runs[tuple((key, value.shape) for key, value in tensors.items())].append(name)
    for members in runs.values():
        if len({tuple(models[m][next(iter(models[m]))].reshape(-1)[:4]) for m in members}) < 2:
            continue
        for weights in members:
            for statistics in members:
                if weights != statistics:
                    mixed = dict(models[weights])
                    for path in norms(mixed):
                        for leaf in ("running_mean", "running_var"):
                            mixed[f"{path}{leaf}"] = models[statistics][f"{path}{leaf}"]
                    yield "statistics of another epoch", f"{statistics} under {weights}", mixed
        last = models[members[-1]]
        averaged = {
            key: value if "running_" in key else np.mean([models[m][key] for m in members], axis=0)
            for key, value in last.items()
        }
        yield "weights averaged over the run", "statistics of the last", averaged


# ---- what is printed ---------------------------------------------------------------------


def area(healthy: list[float], faulty: list[float]) -> float:
    """Area under the ROC curve: the chance that a faulty model is the more suspicious one."""
    if not healthy or not faulty:
        return float("nan")
    pairs = [(f > h) + 0.5 * (f == h) for f in faulty for h in healthy]
    return float(np.mean(pairs))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="*", default=DEFAULT)
    parser.add_argument("--seeds", type=int, default=5, help="repetitions of random faults")
    parser.add_argument("--verbose", action="store_true", help="a line for each pair of epochs")
    options = parser.parse_args()
    models: dict[str, Tensors] = {}
    for path in options.checkpoints:
        try:
            models.update(load(path))
        except NormcheckError as error:
            print(f"left out: {error.message}")
    verdicts = {name: judge(tensors) for name, tensors in models.items()}
    judged = {name: models[name] for name, verdict in verdicts.items() if verdict}
    healthy = [v.suspicion for v in verdicts.values() if v]
    print(f"{len(models)} models, {len(judged)} judged, {len(models) - len(judged)} cannot be told")
    alarms = [name for name, verdict in verdicts.items() if verdict and verdict.cause]
    print(f"false alarms on untouched models: {len(alarms)} {' '.join(alarms)}")
    for name, tensors in judged.items():
        agreement = anatomy_of(in_memory(tensors)).agreement
        fits = agreement.likely if agreement else ()
        median = float(np.median([f.explained for f in fits])) if fits else float("nan")
        print(f"  {name:<36} {len(fits):>3} links, median explained {median:.2f}")
    print(f"\n{'fault':<30} {'strength':<26} {'detected':>9} {'AUC':>6}  named as")
    rng = np.random.default_rng(0)
    rows: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for fault_name, strength, fault in faults():
        for tensors in judged.values():
            for _ in range(options.seeds if fault_name in RANDOM else 1):
                verdict = judge(fault(tensors, rng))
                rows[fault_name, strength].append(verdict or Verdict(None, 0.0))
    for fault_name, strength, tensors in series(judged):
        key = (fault_name, strength if options.verbose else "")
        rows[key].append(judge(tensors) or Verdict(None, 0.0))
    for (fault_name, strength), results in rows.items():
        found = [r.cause for r in results if r.cause]
        causes = ", ".join(f"{c} {found.count(c)}" for c in sorted(set(found)))
        auc = area(healthy, [r.suspicion for r in results])
        share = f"{len(found)}/{len(results)}"
        print(f"{fault_name:<30} {strength:<26} {share:>9} {auc:>6.2f}  {causes}")


if __name__ == "__main__":
    main()
