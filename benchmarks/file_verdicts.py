"""What a scan of a file alone finds of faults that cost accuracy, and whom it accuses wrongly.

    python benchmarks/file_verdicts.py [FOLDER or FILE ...] [--seeds N] [--kept FOLDER] [--verbose]

Trains small networks of many styles on data that packages ship (``small_networks.py``; kept in a
folder), measures their accuracy in eval mode, puts faults of graded strength into their state
dicts, measures the accuracy again, and scans each file. It prints
- how many faults are found, by what they cost, and by kind;
- false alarms: healthy networks, and any checkpoints that are given, that get a warning;
- leave-one-style-out: thresholds of every reading learned from the other styles alone, half-way
  between their largest healthy value and what their faults reach above it: whom these would accuse
  in the style left out, and how many of its faults show in a reading by them.

Kinds that no file can decide are counted apart, by name.
"""

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.small_networks import RECIPES, Trained, networks  # noqa: E402
from normcheck.formats.read_checkpoint import read_checkpoint  # noqa: E402
from normcheck.norms.find_norms import anatomy_of  # noqa: E402
from normcheck.rules.evidence.belonging_evidence import readings  # noqa: E402
from normcheck.runs.scan import scan  # noqa: E402

State = dict[str, torch.Tensor]
Change = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
UNDECIDABLE = frozenset({"variance alone", "first norm in other units", "weights moved a little"})
COSTS = ((0.40, "40 points and more"), (0.15, "15 to 40"), (0.05, "5 to 15"), (0.02, "2 to 5"))


@dataclass
class Fault:
    """One file with something wrong in it."""

    kind: str
    strength: str
    network: Trained
    state: State = field(repr=False)
    beside: State | None = field(default=None, repr=False)
    """Another copy of the model in the same file."""
    cost: float = 0.0
    found: tuple[str, ...] = ()
    readings: dict[str, float] = field(default_factory=dict)


def norms(state: State) -> list[str]:
    """Paths of the batch norms, with a dot."""
    return [k.removesuffix("running_mean") for k in state if k.endswith("running_mean")]


def changed(state: State, change: Change, paths: list[str] | None = None) -> State:
    """A copy with other statistics in some layers."""
    result = dict(state)
    for path in norms(state) if paths is None else paths:
        mean, variance = change(state[f"{path}running_mean"], state[f"{path}running_var"])
        result |= {f"{path}running_mean": mean, f"{path}running_var": variance}
    return result


def faults(network: Trained) -> Iterator[Fault]:
    """Every fault of one network."""
    state, rng = network.state, np.random.default_rng(7)

    def made(kind: str, strength: str, result: State) -> Fault:
        return Fault(kind, strength, network, result)

    paths = norms(state)
    for share in (0.25, 0.5, 1.0):
        some = [str(p) for p in rng.permutation(paths)[: max(1, round(share * len(paths)))]]
        mixed = dict(state)
        for path in some:
            order = torch.tensor(rng.permutation(len(state[f"{path}running_mean"])))
            for leaf in ("running_mean", "running_var"):
                mixed[f"{path}{leaf}"] = state[f"{path}{leaf}"][order]
        yield made("channels permuted", f"{share:.0%} of the layers", mixed)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        left = changed(state, lambda m, v, a=share: ((1 - a) * m, (1 - a) * v + a))
        yield made("initial value left", f"{share:.0%}", left)
    for factor in (0.33, 0.5, 0.7, 1.4, 2.0, 3.0):
        scaled = changed(state, lambda m, v, k=factor: (k * m, k * k * v))
        yield made("other units", f"× {factor}", scaled)
    for factor in (0.1, 0.5):
        decayed = changed(state, lambda m, v, k=factor: (k * m, k * v))
        yield made("buffers decayed", f"to {factor:.0%}", decayed)
    for factor in (0.25, 2.0, 4.0):
        yield made(
            "variance alone", f"× {factor}", changed(state, lambda m, v, k=factor: (m, k * v))
        )
    for factor in (0.0, 0.5, 2.0):
        yield made("mean alone", f"× {factor}", changed(state, lambda m, v, k=factor: (k * m, v)))
    yield made("means negated", "all", changed(state, lambda m, v: (-m, v)))
    yield made("mean and variance swapped", "all", changed(state, lambda m, v: (v, m)))
    yield made("variances one", "all", changed(state, lambda m, v: (m, torch.ones_like(v))))
    yield made("deviation stored", "all", changed(state, lambda m, v: (m, v.sqrt())))
    yield made("inverse variance stored", "all", changed(state, lambda m, v: (m, 1 / (v + 1e-5))))
    yield made(
        "inverse deviation stored", "all", changed(state, lambda m, v: (m, (v + 1e-5) ** -0.5))
    )
    swapped = dict(state)
    for path in paths:
        swapped[f"{path}bias"], swapped[f"{path}running_mean"] = (
            state[f"{path}running_mean"], state[f"{path}bias"],
        )  # fmt: skip
    yield made("mean and bias swapped", "all", swapped)
    yield made("zeroed", "all", changed(state, lambda m, v: (0 * m, 0 * v)))
    early = {k: (network.early[k] if "running_" in k else v) for k, v in state.items()}
    yield made("statistics of an early epoch", "all", early)
    averaged = {**state, **network.averaged}
    yield made("averaged weights, statistics of the raw ones", "all", averaged)
    yield replace(made("averaged weights beside the raw ones", "all", averaged), beside=state)
    for distance in (0.1, 0.3, 1.0):
        moved = {}
        for name, value in state.items():
            moved[name] = value
            if value.ndim >= 2:
                step = torch.tensor(rng.normal(size=tuple(value.shape)), dtype=value.dtype)
                moved[name] = value + distance * value.norm() / step.norm() * step
        kind = "weights moved a little" if distance < 0.2 else "weights moved"
        yield made(kind, f"by {distance:.0%}", moved)
    first = changed(state, lambda m, v: (255 * m, 255**2 * v), paths[:1])
    yield made("first norm in other units", "× 255", first)


def loud(state: State, folder: Path, beside: State | None = None) -> tuple[str, ...]:
    """Rules that warn of a state dict, or of it alone where another copy lies in the same file."""
    file = folder / "model.pt"
    torch.save(state if beside is None else {"model": beside, "ema": state}, file)
    accused = [f for f in scan([file]).findings if f.severity.rank]
    return tuple(sorted({f.rule for f in accused if beside is None or f.where == "ema"}))


def told(folder: Path) -> Counter[str]:
    """How many channels of the last state dict are vouched for, accused, or neither."""
    (model,) = scan([folder / "model.pt"]).models
    channels = Counter[str]()
    for layer in model.layers:
        channels[layer.standing.value] += layer.features or 0
    return channels


def measured(state: State, folder: Path) -> dict[str, float]:
    """What every reading of a state dict comes to."""
    torch.save(state, folder / "model.pt")
    checkpoint = read_checkpoint(folder / "model.pt")
    anatomy = anatomy_of(checkpoint.models[0])
    found = {r.key: r.value for r in readings(anatomy.agreement, anatomy.first)}
    checkpoint.close()
    return found


def table(title: str, rows: dict[str, list[Fault]]) -> None:
    """Found of how many, a row each."""
    print(f"\n| {title} | files | found | by |\n|---|---|---|---|")
    for name, entries in rows.items():
        if entries:
            hit = sum(bool(f.found) for f in entries)
            by = Counter(rule for f in entries for rule in f.found)
            named = ", ".join(f"{rule} {number}" for rule, number in by.most_common(4))
            print(f"| {name} | {len(entries)} | {hit} ({hit / len(entries):.0%}) | {named} |")


def learned(healthy: list[dict[str, float]], costly: list[Fault]) -> dict[str, float]:
    """A threshold for each reading: half-way between health and what faults reach beyond it."""
    most: dict[str, float] = {}
    for found in healthy:
        for key, value in found.items():
            most[key] = max(most.get(key, -np.inf), value)
    beyond: dict[str, list[float]] = defaultdict(list)
    for fault in costly:
        for key, value in fault.readings.items():
            if key in most and value > most[key]:
                beyond[key].append(value)
    return {key: (most[key] + float(np.median(values))) / 2 for key, values in beyond.items()}


def left_out(healthy: dict[str, list[dict[str, float]]], costly: list[Fault]) -> None:
    """What thresholds do that know nothing of the style in question."""
    alarms, hit = [], 0
    for style, members in healthy.items():
        others = [v for other, values in healthy.items() if other != style for v in values]
        limits = learned(others, [f for f in costly if f.network.style != style])
        for found in members:
            over = [k for k, v in found.items() if v > limits.get(k, np.inf)]
            alarms += [f"{style}: {', '.join(over)}"] if over else []
        hit += sum(
            any(v > limits.get(k, np.inf) for k, v in f.readings.items())
            for f in costly
            if f.network.style == style
        )
    judged = sum(map(len, healthy.values()))
    print(f"\nleave one style out: {len(alarms)} of {judged} healthy accused {'; '.join(alarms)}")
    if costly:
        print(f"and {hit} of {len(costly)} faults ({hit / len(costly):.0%}) show in a reading")


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="*", help="healthy ones, for false alarms")
    parser.add_argument("--seeds", type=int, default=1, help="healthy networks of each kind")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help="the first seed: one that nobody has looked at measures",
    )
    parser.add_argument("--faulty", type=int, default=1, help="of which faults are made of so many")
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "normcheck-nets")
    parser.add_argument(
        "--recipe", choices=RECIPES, default=RECIPES[0], help="how they are trained"
    )
    parser.add_argument("--verbose", action="store_true", help="a line for each fault")
    options = parser.parse_args()
    torch.set_num_threads(1)
    everything: list[Fault] = []
    healthy: dict[str, list[dict[str, float]]] = defaultdict(list)
    alarms: list[str] = []
    channels = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in networks(options.kept, options.seeds, options.recipe, options.first):
            if found := loud(network.state, folder):
                alarms.append(f"{network.name} ({', '.join(found)})")
            channels += told(folder)
            healthy[network.style].append(measured(network.state, folder))
            before = network.accuracy(network.state)
            for fault in faults(network) if network.seed < options.first + options.faulty else ():
                fault.cost = before - network.accuracy(fault.state)
                fault.found = loud(fault.state, folder, fault.beside)
                fault.readings = measured(fault.state, folder)
                fault.state, fault.beside = {}, None
                everything.append(fault)
                if options.verbose:
                    print(f"{network.name} | {fault.kind} {fault.strength} | {fault.cost:.3f} | "
                          f"{' '.join(fault.found)}")  # fmt: skip
    shown(everything, healthy, alarms, channels, options.checkpoints)


def shown(
    everything: list[Fault],
    healthy: dict[str, list[dict[str, float]]],
    alarms: list[str],
    channels: Counter[str],
    checkpoints: list[str],
) -> None:
    """Print what was measured."""
    count = sum(map(len, healthy.values()))
    print(f"{count} healthy networks of {len(healthy)} styles, {len(everything)} faults")
    print(f"false alarms: {len(alarms)} {'; '.join(alarms)}")
    shares = ", ".join(f"{k} {n / channels.total():.0%}" for k, n in channels.most_common())
    print(f"channels of healthy networks: {shares}")
    if checkpoints:
        report = scan(checkpoints)
        accused = {f.model for f in report.findings if f.severity.rank}
        print(f"false alarms on given checkpoints: {len(accused)} of {len(report.models)} models")
    decidable = [f for f in everything if f.kind not in UNDECIDABLE]
    by_cost: dict[str, list[Fault]] = {}
    most = np.inf
    for least, name in COSTS:
        by_cost[name] = [f for f in decidable if least <= f.cost < most]
        most = least
    by_cost["all that cost 2 points or more"] = [f for f in decidable if f.cost >= COSTS[-1][0]]
    table("cost in accuracy", by_cost)
    by_kind: dict[str, list[Fault]] = defaultdict(list)
    for fault in everything:
        if fault.cost >= COSTS[-1][0]:
            mark = " (not decidable)" if fault.kind in UNDECIDABLE else ""
            by_kind[f"{fault.kind}{mark}"].append(fault)
    table("kind, where it cost 2 points or more", by_kind)
    left_out(healthy, by_cost["all that cost 2 points or more"])


if __name__ == "__main__":
    main()
