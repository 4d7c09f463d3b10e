"""How often a scan with data names the code that a file was trained with, where other code runs it.

Run from the repository root as ``python -m benchmarks.other_code``. Small networks are trained on
the data of ``run_verdicts.py`` as one code computes them, and loaded into another: activations
lost, or exchanged; another eps; other borders; other pooling; an activation that works in place
before a shortcut or does not. The controls, in which NC407 is a false name: the code that was
trained, input that is too bright, shifted or inverted, and statistics that are lost, stale,
averaged, of dimmer data, or off in one layer.
"""

import argparse
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.kept_lines import Kept
from benchmarks.run_verdicts import (
    DATA,
    SAMPLES,
    Data,
    accuracy,
    faults,
    fit,
    healthy,
    wilson,
)
from normcheck import Examination, scan
from normcheck.live.run_request import Feeding, Running

RULE = "NC407"
HARMFUL = 2.0
"""Points of accuracy that other code has to cost to be counted among what should be named."""
AS_TRAINED = "the code that was trained"
FAULTS = frozenset((
    "lost", "statistics of an earlier step 1", "averaged weights", "of dimmer data",
    "one layer shifted",
))  # fmt: skip
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "input four times too bright": lambda x: 4 * x,
    "input shifted by one": lambda x: x + 1,
    "input inverted": lambda x: -x,
}
SMALL = 0.05
"""Times the usual first weights, where eps matters: norms then divide by little."""


# Code


@dataclass(frozen=True, slots=True)
class Code:
    """What a class of networks computes, but for its weights."""

    act: str = "ReLU"
    eps: float = 1e-5
    borders: str = "zeros"
    """As ``nn.Conv2d`` names them, or ``same``: TensorFlow's, zeros more at the right and below."""
    pool: str = "max"
    in_place: bool = False
    """Whether the activation before a block works on what the shortcut takes as well."""


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "ReLU": functional.relu,
    "SiLU": functional.silu,
    "GELU": functional.gelu,
    "leaky ReLU (0.1)": lambda x: functional.leaky_relu(x, 0.1),
}


class Unit(nn.Module):
    """Convolution, norm, activation."""

    def __init__(
        self,
        code: Code,
        made_of: int,
        makes: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        """Take code and widths."""
        super().__init__()
        self.code, self.same = code, code.borders == "same" and stride > 1
        mode = "zeros" if code.borders == "same" else code.borders
        self.conv = nn.Conv2d(
            made_of, makes, kernel, stride, 0 if self.same else kernel // 2, groups=groups,
            bias=False, padding_mode=mode,  # type: ignore[arg-type]
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(makes, code.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Images to maps."""
        if self.same:
            x = functional.pad(x, (0, 1, 0, 1))
        found: Tensor = ACTIVATIONS[self.code.act](self.norm(self.conv(x)))
        return found


class Plain(nn.Module):
    """Convolutions and pooling, a stride between."""

    def __init__(self, code: Code, channels: int, classes: int) -> None:
        """Take code, channels and classes."""
        super().__init__()
        self.pool = nn.MaxPool2d(2) if code.pool == "max" else nn.AvgPool2d(2)
        self.front = nn.Sequential(Unit(code, channels, 16), Unit(code, 16, 16))
        self.back = nn.Sequential(Unit(code, 16, 32), Unit(code, 32, 32, stride=2))
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        found: Tensor = self.head(self.back(self.pool(self.front(x))).mean((2, 3)))
        return found


class Mobile(nn.Module):
    """Depthwise and pointwise convolutions."""

    def __init__(self, code: Code, channels: int, classes: int) -> None:
        """Take code, channels and classes."""
        super().__init__()
        self.body = nn.Sequential(
            Unit(code, channels, 16), Unit(code, 16, 16, groups=16),
            Unit(code, 16, 24, kernel=1), Unit(code, 24, 24, groups=24, stride=2),
            Unit(code, 24, 32, kernel=1),
        )  # fmt: skip
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        found: Tensor = self.head(self.body(x).mean((2, 3)))
        return found


class Residual(nn.Module):
    """Two blocks with shortcuts; each block begins with an activation."""

    def __init__(self, code: Code, channels: int, classes: int) -> None:
        """Take code, channels and classes."""
        super().__init__()
        self.act, self.in_place = ACTIVATIONS[code.act], code.in_place
        bare = replace(code, act="none")
        self.stem = Unit(bare, channels, 24)
        self.blocks = nn.ModuleList(
            nn.Sequential(Unit(code, 24, 24), Unit(bare, 24, 24)) for _ in range(2)
        )
        self.last = Unit(code, 24, 32, stride=2)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        maps = self.stem(x)
        for block in self.blocks:
            active = self.act(maps)
            maps = (active if self.in_place else maps) + block(active)
        found: Tensor = self.head(self.last(maps).mean((2, 3)))
        return found


NETWORKS: dict[str, Callable[[Code, int, int], nn.Module]] = {
    "plain": Plain, "mobile": Mobile, "residual": Residual,
}  # fmt: skip
USUAL = {"plain": Code(), "mobile": Code(act="SiLU"), "residual": Code()}


def changes(network: str) -> Iterator[tuple[str, Code, Code, str]]:
    """What kind of change, the code that is trained, the code that runs, and the name for it."""
    own = USUAL[network]
    bare = f"{own.act} in place of its activations" if network == "residual" else own.act
    if network != "residual":  # whose shortcuts leave no activation to put behind norms
        yield "activation lost", own, replace(own, act="none"), f"{bare} behind each norm"
    for trained, run in (("ReLU", "SiLU"), ("SiLU", "ReLU"), ("leaky ReLU (0.1)", "GELU")):
        a, b = (replace(own, act=act) for act in (trained, run))
        yield "activation exchanged", a, b, f"{trained} in place of its activations"
    yield "eps", replace(own, eps=1e-3), own, "eps 0.001"
    for trained, run in (("reflect", "zeros"), ("zeros", "reflect")):
        a, b = (replace(own, borders=borders) for borders in (trained, run))
        word = {"reflect": "reflected", "zeros": "zeros"}[trained]
        yield "borders", a, b, f"{word} borders"
    yield (
        "borders", replace(own, borders="same"), own,
        "zeros at the right and lower borders alone",
    )  # fmt: skip
    if network == "plain":
        avg, biggest = replace(own, pool="average"), own
        yield "pooling", avg, biggest, "average pooling in place of max pooling"
        yield "pooling", biggest, avg, "max pooling in place of average pooling"
    if network == "residual":
        yield "in place", replace(own, in_place=True), own, "working in place"


# Scans


@dataclass(slots=True)
class Said:
    """What a scan said of one network under one code."""

    network: str
    data: str
    seed: int
    kind: str
    """Of change, or of control."""
    change: str
    """What was trained, in the words that name it; empty for controls."""
    cost: float
    """Points of accuracy that the other code costs, on samples that were not shown."""
    named: str
    """What NC407 names; empty where it does not speak."""
    loud: list[str]
    """Codes of all warnings and errors."""

    @property
    def right(self) -> bool:
        """Whether the code that was trained is named, alone or among those that fit as well."""
        return bool(self.change) and self.change in self.named


def _scanned(model: nn.Module, shown: tuple[Tensor, Tensor]) -> tuple[str, list[str]]:
    settings = Examination(running=Running(feeding=Feeding(samples=SAMPLES)))
    report = scan(model.eval(), settings, data=shown)
    if report.errors:
        raise SystemExit(report.errors[0].message)
    named = [f.detail for f in report.findings if f.rule == RULE]
    return " ".join(named), sorted({f.rule for f in report.findings if f.severity.rank})


def judged(job: tuple[str, str, int]) -> list[Said]:
    """Scan one network as it was trained, under other code, and with other faults."""
    network, data, seed = job
    torch.set_num_threads(1)
    found = DATA[data](zlib.crc32(f"other code, {network}, {data}, {seed}".encode()))
    channels = found.train[0].shape[1]

    def built(code: Code) -> nn.Module:
        torch.manual_seed(1000 + seed)
        return NETWORKS[network](code, channels, found.classes)

    known = healthy(lambda: built(USUAL[network]), found, seed)
    trained = {USUAL[network]: known.model}
    said = []

    def add(kind: str, model: nn.Module, words: str = "", cost: float = 0.0) -> None:
        said.append(Said(network, data, seed, kind, words, cost, *_scanned(model, found.shown)))

    add(AS_TRAINED, known.model)
    for kind, before, after, words in changes(network):
        if before not in trained:
            trained[before] = _trained(built(before), before, found, seed)
            add(AS_TRAINED, trained[before])
        served = built(after)
        served.load_state_dict(trained[before].state_dict())
        cost = accuracy(trained[before], found.judge) - accuracy(served, found.judge)
        add(kind, served, words, cost)
    for case in faults(known, found, seed):
        if case.kind in FAULTS:
            add(case.kind, case.model)
    for kind, change in INPUTS.items():
        named, loud = _scanned(known.model, (change(found.shown[0]), found.shown[1]))
        said.append(Said(network, data, seed, kind, "", 0.0, named, loud))
    return said


def _trained(model: nn.Module, code: Code, data: Data, seed: int) -> nn.Module:
    if code.eps > Code().eps:
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.mul_(SMALL)
    return fit(model.train(), data.train, seed)


# The table


def _share(hits: int, count: int) -> str:
    low, high = wilson(hits, count)
    return f"{hits} of {count} ({100 * low:.0f} to {100 * high:.0f} %)" if count else "none"


def table(said: list[Said], sets: list[str]) -> Iterator[str]:
    """A row for each kind of change and of control, as Markdown."""
    yield "| code that runs | " + " | ".join(sets) + " | named wrongly |"
    yield "|---" * (len(sets) + 2) + "|"
    kinds: dict[str, list[Said]] = defaultdict(list)
    for entry in said:
        if not entry.change or entry.cost >= HARMFUL:
            kinds[entry.kind].append(entry)
    for kind, entries in sorted(kinds.items(), key=lambda item: not item[1][0].change):
        cells = []
        for name in sets:
            own = [e for e in entries if e.data == name]
            control = own and not own[0].change
            cells.append("–" if control else _share(sum(e.right for e in own), len(own)))
        wrongly = _share(sum(bool(e.named) and not e.right for e in entries), len(entries))
        yield f"| {kind} | " + " | ".join(cells) + f" | {wrongly} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.other_code")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each network")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--sets", default="digits,patches")
    parser.add_argument("--append", type=Path, help="keep what was measured as JSON lines there")
    chosen = parser.parse_args()
    sets = chosen.sets.split(",")
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    jobs = [(network, data, seed) for seed in seeds for network in NETWORKS for data in sets]
    kept = Kept(Said, chosen.append)
    said = kept.entries
    done = {(s.network, s.data, s.seed) for s in said}
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for found in pool.map(judged, [job for job in jobs if job not in done]):
            kept.add(found)
            print(f"\r{len(said)} scans", end="", file=sys.stderr)
    print()
    print("\n".join(table(said, sets)))
    harmless = [s for s in said if s.change and s.cost < HARMFUL]
    print(
        f"\nof {len(harmless)} changes that cost less than {HARMFUL:g} points "
        f"{sum(s.right for s in harmless)} are named, "
        f"{sum(bool(s.named) and not s.right for s in harmless)} wrongly"
    )
    silent = [s for s in said if s.change and s.cost >= HARMFUL and not s.loud]
    print(f"nothing is said at all of {len(silent)} that cost more")
    for entry in (s for s in said if s.named and not s.right):
        print(f"    {entry}")


if __name__ == "__main__":
    main()
