"""What a scan with data says of networks whose damage is known: false alarms and sensitivity.

Run from the repository root as ``python -m benchmarks.run_verdicts --seeds 3``. Small networks are
trained on data that scikit-learn ships; from each come healthy variants that resemble sick ones,
and sick ones whose damage is measured on samples that were held out, 7,200 of patches and as many
as there are of digits and tumours: the accuracy that statistics of the training data would give,
minus that of the stored ones.

A false alarm is a warning or an error about statistics on a network that loses less than half a
point by them. Look-alikes are trained, not made up: norms frozen from scratch or after a third of
the training, fine-tuning in eval mode (on other input, or gently on the same), augmentation (where
strong augmentation does cost points on clean data, it is counted among the sick); or healthy
networks on data that are not their own: of one class, noise, wrongly scaled, which must not be
blamed on the statistics.
"""

import argparse
import copy
import math
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_images
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.kept_lines import Kept
from normcheck import Examination, Severity, scan
from normcheck.live.run_request import MORE_SAMPLES, Feeding, Running
from sample_models.networks import DigitsNet

SAMPLES = 256
"""What a scan is given."""
BANDS = ((0.5, 1), (1, 2), (2, 5), (5, 15), (15, 100))
"""Points of accuracy lost, by which sick networks are told apart."""
_HARMLESS = 0.5
"""Points below which statistics cost nothing that could be told from luck."""
_OTHERS = frozenset({"NC404", "NC405"})
"""Rules that blame the data, which is right where the data are wrong."""
_STATISTICS = ("NC1", "NC4")
"""Families whose findings are about statistics."""


# Data


@dataclass(frozen=True, slots=True)
class Data:
    """Samples to train on, to show to a scan, and to measure the damage by."""

    train: tuple[Tensor, Tensor]
    shown: tuple[Tensor, Tensor]
    judge: tuple[Tensor, Tensor]
    classes: int
    spare: tuple[Tensor, Tensor] | None = None
    """More that may be shown; of patches none of them is judged by."""


def _split(x: Tensor, y: Tensor, seed: int, train: int) -> Data:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    end = train + SAMPLES
    parts = order[:train], order[train:end], order[train:], order[end:]
    (a, b, c, d) = ((x[rows], y[rows]) for rows in parts)
    return Data(a, b, c, int(y.max()) + 1, d)


def digits(seed: int) -> Data:
    """Images of digits, 1x8x8, 10 classes."""
    found = load_digits()
    x = torch.tensor(found.images[:, None] / 16, dtype=torch.float32)
    return _split((x - x.mean()) / x.std(), torch.tensor(found.target), seed, 1000)


def _cut(seed: int, each: int) -> tuple[Tensor, Tensor]:
    """So many patches of each sixth of two photographs, from 0 to 1, and which sixth it is."""
    random, images, labels = np.random.default_rng(seed), [], []
    for number, photo in enumerate(load_sample_images().images):
        high, wide = photo.shape[0] // 2, photo.shape[1] // 3
        for part in range(6):
            top, left = part // 3 * high, part % 3 * wide
            for _ in range(each):
                y = top + random.integers(high - 16)
                x = left + random.integers(wide - 16)
                images.append(photo[y : y + 16, x : x + 16])
                labels.append(6 * number + part)
    pixels = torch.tensor(np.stack(images), dtype=torch.float32).permute(0, 3, 1, 2) / 255
    return functional.avg_pool2d(pixels, 2), torch.tensor(labels)


def patches(seed: int) -> Data:
    """Patches of two photographs, 3x8x8; the class is the sixth of which photograph.

    A point of accuracy is easily luck where half of the answers are wrong: 7,200 more tell the
    damage to half a point.
    """
    pixels, labels = _cut(seed, 200)
    mean, deviation = pixels.mean(), pixels.std()
    found = _split((pixels - mean) / deviation, labels, seed, 1400)
    more, of_more = _cut(10_000 + seed, 600)
    order = torch.randperm(len(more), generator=torch.Generator().manual_seed(seed))
    return replace(found, judge=((more[order] - mean) / deviation, of_more[order]))


def cancer(seed: int) -> Data:
    """Thirty measurements of tumours, 2 classes, with a part of the labels noisy."""
    found = load_breast_cancer()
    x = torch.tensor(found.data, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    return _split(x, torch.tensor(found.target), seed, 300)


DATA: dict[str, Callable[[int], Data]] = {"digits": digits, "patches": patches, "cancer": cancer}


def data_of(network: str, data: str, seed: int, *, more: bool = False) -> Data:
    """The data of one network, cut for it alone.

    Networks of one seed that are shown the same samples agree in what these happen to show: their
    verdicts are then fewer than they look.
    """
    found = DATA[data](zlib.crc32(f"{network}, {data}, {seed}".encode()))
    if not more or found.spare is None:
        return found
    (x, y), (further, of_further) = found.shown, found.spare
    return replace(found, shown=(torch.cat([x, further]), torch.cat([y, of_further])))


# Networks


def _conv(i: int, o: int, act: Callable[[], nn.Module], *, k: int = 3, **more: int) -> nn.Module:
    conv = nn.Conv2d(i, o, k, padding=k // 2, bias=False, **more)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.BatchNorm2d(o), act())


def _head(width: int, classes: int, *before: nn.Module) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *before, nn.Linear(width, classes)]


def residual(channels: int, classes: int) -> nn.Module:
    """The sample models' network: a residual block, a depthwise and a pointwise convolution."""
    net = DigitsNet()
    net.stem.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
    net.head = nn.Linear(32, classes)
    return net


def plain(channels: int, classes: int) -> nn.Module:
    """As VGG: convolutions, ReLU, max pooling."""
    return nn.Sequential(
        _conv(channels, 16, nn.ReLU), nn.MaxPool2d(2), _conv(16, 32, nn.ReLU),
        _conv(32, 32, nn.ReLU), *_head(32, classes),
    )  # fmt: skip


def mobile(channels: int, classes: int) -> nn.Module:
    """Depthwise and pointwise convolutions with SiLU."""
    return nn.Sequential(
        _conv(channels, 16, nn.SiLU), _conv(16, 16, nn.SiLU, groups=16),
        _conv(16, 24, nn.SiLU, k=1), _conv(24, 24, nn.SiLU, groups=24),
        _conv(24, 32, nn.SiLU, k=1), *_head(32, classes),
    )  # fmt: skip


def leaky(channels: int, classes: int) -> nn.Module:
    """Wide kernels, leaky ReLU, dropout before the head."""
    act = lambda: nn.LeakyReLU(0.1)  # noqa: E731
    return nn.Sequential(
        _conv(channels, 16, act, k=5), _conv(16, 16, act), _conv(16, 32, act),
        *_head(32, classes, nn.Dropout(0.2)),
    )  # fmt: skip


def perceptron(features: int, classes: int) -> nn.Module:
    """Two hidden layers with BatchNorm1d."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, 48), nn.BatchNorm1d(48), nn.ReLU(),
        nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, classes),
    )  # fmt: skip


def deep_perceptron(features: int, classes: int) -> nn.Module:
    """Four hidden layers, dropout between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in (features, 32, 32, 32):
        layers += [nn.Linear(width, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(*layers, nn.Linear(32, classes))


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "residual": residual, "plain": plain, "mobile": mobile, "leaky": leaky,
    "perceptron": perceptron, "deep perceptron": deep_perceptron,
}  # fmt: skip


def combinations() -> list[tuple[str, str]]:
    """Networks and data that go together: tables have no image to convolve."""
    return [
        (network, data)
        for network in NETWORKS
        for data in DATA
        if data != "cancer" or "perceptron" in network
    ]


# Training


def norms(model: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """The batch norms of a model."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]


def loss_of(outputs: Tensor, labels: Tensor) -> Tensor:
    """Squared error of numbers, cross entropy of classes."""
    if labels.is_floating_point():
        return functional.mse_loss(outputs, labels)
    return functional.cross_entropy(outputs, labels)


def level(labels: Tensor) -> Tensor:
    """One number a sample, ``(N,)``: its class, or the mean of its labels."""
    return labels.reshape(len(labels), -1).double().mean(dim=1)


def fit(
    model: nn.Module,
    part: tuple[Tensor, Tensor],
    seed: int,
    *,
    steps: int = 260,
    rate: float = 3e-3,
    change: Callable[[Tensor], Tensor] = lambda x: x,
    after: Callable[[int], None] = lambda _step: None,
) -> nn.Module:
    """Train in whatever modes the modules have; of even seeds the rate falls to nothing."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    for step in range(steps):
        if seed % 2 == 0:
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        rows = torch.randint(len(part[0]), (32,))
        optimizer.zero_grad()
        loss = loss_of(model(change(part[0][rows])), part[1][rows])
        torch.autograd.backward(loss)
        optimizer.step()
        after(step)
    return model.eval()


def _norms_in_eval(model: nn.Module) -> nn.Module:
    model.train()
    for norm in norms(model):
        norm.eval()
    return model


@torch.no_grad()
def pass_over(model: nn.Module, x: Tensor, seed: int, batches: int) -> nn.Module:
    """Forwards in train mode, which only move the statistics."""
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(batches):
        model(x[torch.randint(len(x), (32,), generator=order)])
    return model.eval()


@torch.no_grad()
def reestimated(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy with the statistics of these samples, exactly: one batch at momentum 1."""
    found = copy.deepcopy(model)
    for module in found.modules():
        module.train(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d))
    for norm in norms(found):
        norm.momentum = 1.0
    found(x)
    return found.eval()


@torch.no_grad()
def accuracy(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    """Share of right answers in eval mode, in per cent."""
    return 100 * float((model.eval()(part[0]).argmax(1) == part[1]).double().mean())


# Cases


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network, the data that the scan is to see, and what may be said of it."""

    kind: str
    model: nn.Module
    shown: tuple[Tensor, Tensor]
    sick: bool
    change: Callable[[Tensor], Tensor] | None = lambda x: x
    """What its own data are made by from those of the set; None where it is shown data of others,
    which cost it nothing that its statistics could help."""
    labelled: tuple[bool, ...] = (False, True)
    others: frozenset[str] = frozenset()
    """Rules that may speak although the statistics are right."""


def _with_residue(model: nn.Module, residue: float) -> nn.Module:
    changed = copy.deepcopy(model)
    for norm in norms(changed):
        norm.running_mean.mul_(1 - residue)  # type: ignore[union-attr]
        norm.running_var.mul_(1 - residue).add_(residue)  # type: ignore[union-attr]
    return changed


@dataclass(slots=True)
class Trained:
    """A healthy network, and what its training left on the way."""

    model: nn.Module
    early: list[nn.Module]
    average: nn.Module
    """A moving average of the weights, with the statistics of when it began."""


def healthy(fresh: Callable[[], nn.Module], data: Data, seed: int) -> Trained:
    """Train a network, and keep copies of two earlier steps and an average."""
    model, early, average = fresh().train(), list[nn.Module](), list[nn.Module]()

    def watch(step: int) -> None:
        if step in (90, 180):
            early.append(copy.deepcopy(model).eval())
        if step == 90:
            average.append(copy.deepcopy(model).eval())
        if average:
            for kept, moving in zip(average[0].parameters(), model.parameters(), strict=True):
                kept.data.lerp_(moving.data, 0.02)

    fit(model, data.train, seed, after=watch)
    return Trained(model, early, average[0])


def cases(network: str, data: str, seed: int, *, more: bool = False) -> Iterator[Case]:
    """All cases of one network that is trained on one set of data."""
    found = data_of(network, data, seed, more=more)
    inputs = found.train[0][0].numel() if "perceptron" in network else found.train[0].shape[1]

    def fresh() -> nn.Module:
        torch.manual_seed(1000 + seed)
        return NETWORKS[network](inputs, found.classes)

    yield from cases_of(fresh, found, seed)


def cases_of(fresh: Callable[[], nn.Module], found: Data, seed: int) -> Iterator[Case]:
    """A healthy network, its look-alikes and its faults."""
    trained = healthy(fresh, found, seed)
    yield Case("healthy", trained.model, found.shown, sick=False)
    yield from look_alikes(fresh, trained.model, found, seed)
    yield from faults(trained, found, seed)


def look_alikes(
    fresh: Callable[[], nn.Module], model: nn.Module, found: Data, seed: int
) -> Iterator[Case]:
    """What resembles a fault of the statistics and is none."""
    shown = found.shown
    frozen = fresh()
    for norm in norms(frozen):
        norm.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.8, 1.25)  # type: ignore[union-attr]
    yield Case("frozen from scratch", fit(_norms_in_eval(frozen), found.train, seed), shown, False)
    dim = lambda x: 0.45 * x - 0.5  # noqa: E731
    tuned = _norms_in_eval(copy.deepcopy(model))
    tuned = fit(tuned, found.train, seed, steps=200, rate=2e-3, change=dim)
    yield Case("fine-tuned in eval mode", tuned, (dim(shown[0]), shown[1]), False, dim)
    gently = _norms_in_eval(copy.deepcopy(model))
    gently = fit(gently, found.train, seed + 2, steps=200, rate=1e-3)
    yield Case("fine-tuned gently in eval mode", gently, shown, sick=False)
    started = fit(fresh().train(), found.train, seed, steps=90, rate=3e-3)
    started = fit(_norms_in_eval(started), found.train, seed + 4, steps=200)
    yield Case("frozen after a third", started, shown, sick=False)
    for strength in (0.3, 0.7):
        augmented = fit(
            fresh().train(), found.train, seed,
            change=lambda x, s=strength: x + s * torch.randn_like(x),  # type: ignore[misc]
        )  # fmt: skip
        yield Case(f"augmented by noise of {strength}", augmented, shown, False)
    yield Case("Monte-Carlo dropout", Sampling(model), shown, sick=False)
    # Of numbers and masks: those that lie nearest to one sample's.
    one = (level(found.judge[1]) - level(found.judge[1])[0]).abs().argsort(stable=True)[:60]
    # That a class is answered as if guessed may be true, and blames no statistics.
    yield Case(
        "data of one class", model, (found.judge[0][one], found.judge[1][one]), False, None,
        others=frozenset({"NC406"}),
    )  # fmt: skip
    static = torch.randn(shown[0].shape, generator=torch.Generator().manual_seed(seed))
    yield Case("noise for data", model, (static, shown[1]), False, None, (False,), _OTHERS)
    for name, change in (
        ("four times too bright", lambda x: 4 * x),
        ("shifted by one", lambda x: x + 1),
        ("inverted", lambda x: -x),
    ):
        changed = (change(shown[0]), shown[1])
        others = _OTHERS | {"NC406"}
        yield Case(f"input {name}", model, changed, False, None, others=others)


class Sampling(nn.Module):
    """A network whose dropout before the scores is left on, on purpose."""

    def __init__(self, inner: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Scores, some of them dropped at random."""
        return functional.dropout(self.inner(x), 0.05, training=True)


def faults(trained: Trained, found: Data, seed: int) -> Iterator[Case]:
    """Statistics that are off, from by little to by everything."""
    model, shown = trained.model, found.shown
    for residue in (0.01, 0.03, 0.1, 0.3):
        sick = _with_residue(model, residue)
        yield Case(f"{residue:.0%} of the initial value", sick, shown, sick=True)
    for number, kept in enumerate(trained.early):
        stale = copy.deepcopy(model)
        for new, old in zip(norms(stale), norms(kept), strict=True):
            new.running_mean, new.running_var = old.running_mean, old.running_var
        yield Case(f"statistics of an earlier step {number + 1}", stale, shown, sick=True)
    yield Case("averaged weights", trained.average, shown, sick=True)
    sorted_by = copy.deepcopy(model).train()
    with torch.no_grad():
        for chosen in level(found.train[1]).argsort(stable=True).split(32):
            if len(chosen) == 32:
                sorted_by(found.train[0][chosen])
    yield Case("sorted by class", sorted_by.eval(), shown, sick=True)
    few = copy.deepcopy(model)
    for norm in norms(few):
        norm.reset_running_stats()
        norm.momentum = None
    yield Case("of two small batches", pass_over(few, found.train[0][:40], seed, 2), shown, True)
    dimmer = pass_over(copy.deepcopy(model), 0.8 * found.train[0] - 0.15, seed, 60)
    yield Case("of dimmer data", dimmer, shown, sick=True)
    single = copy.deepcopy(model)
    last = norms(single)[-1]
    last.running_mean += 0.7 * last.running_var.sqrt()  # type: ignore[union-attr,operator]
    yield Case("one layer shifted", single, shown, sick=True)
    lost = copy.deepcopy(model)
    for norm in norms(lost):
        norm.reset_running_stats()
    yield Case("lost", lost, shown, sick=True)


def cost(case: Case, data: Data) -> float:
    """Points of accuracy that the stored statistics cost on the network's own data."""
    if case.change is None:
        return 0.0
    if isinstance(case.model, Sampling):  # its scatter is not the statistics' doing
        case = replace(case, model=case.model.inner)
    judge = (case.change(data.judge[0]), data.judge[1])
    best = reestimated(case.model, case.change(data.train[0]))
    return accuracy(best, judge) - accuracy(case.model, judge)


@dataclass(slots=True)
class Said:
    """What a scan said of a case, beside what is true of it."""

    network: str
    data: str
    seed: int
    kind: str
    labelled: bool
    sick: bool
    damage: float
    """Points of accuracy that the stored statistics cost, on samples that were not shown."""
    loud: list[str]
    """Codes of warnings and errors about statistics or data."""
    alarm: bool
    """Whether one of them blames the statistics because of the run."""
    forwards: int = 0
    """What the scan cost."""
    error: bool = False
    """Whether one of them is an error."""
    samples: int = SAMPLES
    """That the verdict rests on."""


def said_of(
    case: Case, what: Sequence[str], seed: int, damage: float, labelled: bool, more: bool = False
) -> Said:
    """What a scan says of a case."""
    network, data = what
    shown = case.shown if labelled else case.shown[0]
    feeding = Feeding(samples=SAMPLES, more_samples=MORE_SAMPLES if more else 0)
    settings = Examination(running=Running(feeding=feeding))
    report = scan(case.model.eval(), settings, data=shown)
    if report.errors:
        raise SystemExit(f"{what} {seed} {case.kind}: {report.errors[0].message}")
    statistics = [f for f in report.findings if f.rule.startswith(_STATISTICS)]
    loud = {f.rule for f in statistics if f.severity.rank}
    run = report.models[0].run
    assert run is not None  # noqa: S101  (it was given data)
    # What the file alone makes of it is another matter, unless the run confirms it.
    blamed = {rule for rule in loud if labelled or rule.startswith("NC4")}
    return Said(
        network, data, seed, case.kind, labelled, case.sick, damage, sorted(loud),
        bool(blamed - case.others - _OTHERS), run.forwards,
        any(f.severity is Severity.ERROR for f in statistics), run.fed.samples,
    )  # fmt: skip


def judged(job: tuple[str, str, int], more: bool = False) -> list[Said]:
    """Scan all cases of one network."""
    network, data, seed = job
    torch.set_num_threads(1)
    found = data_of(network, data, seed)
    said = []
    for case in cases(network, data, seed, more=more):
        damage = cost(case, found)
        labelled = [w for w in case.labelled if w or not more]
        said += [said_of(case, (network, data), seed, damage, w, more) for w in labelled]
    return said


# The table


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson, 1927)."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def rate(said: list[Said]) -> str:
    """``19 of 48 = 40 % (27 to 54)``."""
    hits = sum(entry.alarm if is_harmless(entry) else bool(entry.loud) for entry in said)
    if not said:
        return "none"
    low, high = wilson(hits, len(said))
    share = 100 * hits / len(said)
    return f"{hits} of {len(said)} = {share:.1f} % ({100 * low:.0f} to {100 * high:.0f})"


def is_harmless(entry: Said) -> bool:
    """Whether nothing may be said of its statistics."""
    return not entry.sick and entry.damage < _HARMLESS


def table(said: list[Said]) -> list[str]:
    """False alarms and sensitivity, with labels and without, as Markdown."""
    lines = [
        f"| networks with statistics that … | {SAMPLES} labelled samples | {SAMPLES} unlabelled |",
        "|---|---|---|",
    ]

    def row(name: str, chosen: Callable[[Said], bool]) -> None:
        cells = [rate([s for s in said if s.labelled is w and chosen(s)]) for w in (True, False)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")

    row("are harmless: false alarms", lambda s: is_harmless(s) and not s.kind.startswith("input"))
    row("are harmless, blamed for wrong input", lambda s: s.kind.startswith("input"))
    for low, high in BANDS:
        words = (
            f"cost {low:g} to {high:g} points" if high < 100 else f"cost more than {low:g} points"
        )
        row(words, lambda s, low=low, high=high: low <= s.damage < high)  # type: ignore[misc]
    # Running averages lag behind weights that still move: some of the damage is nobody's fault.
    twins = {(s.network, s.data, s.seed): s.damage for s in said if s.kind == "healthy"}

    def added(entry: Said) -> float:
        return entry.damage - twins.get((entry.network, entry.data, entry.seed), 0.0)

    row("cost 2 to 5 points more by a fault than before it", lambda s: s.sick and 2 <= added(s) < 5)
    return lines


def by_kind(said: list[Said]) -> list[str]:
    """Alarms on each kind of harmless network."""
    kinds: dict[str, list[Said]] = defaultdict(list)
    for entry in said:
        if is_harmless(entry):
            kinds[entry.kind].append(entry)
    return [f"  {kind}: {rate(entries)}" for kind, entries in kinds.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_verdicts")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each network")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--networks", default="", help="only these, by commas")
    parser.add_argument(
        "--more",
        action="store_true",
        help="networks for patches alone, whose scans find 1,000 labelled samples and take them "
        "where 256 leave open what statistics cost",
    )
    parser.add_argument("--append", type=Path, help="keep what was measured as JSON lines there")
    chosen = parser.parse_args()
    networks = [name for name in chosen.networks.split(",") if name]
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    jobs = [
        (network, data, seed)
        for seed in seeds
        for network, data in combinations()
        if (not networks or network in networks) and (data == "patches" or not chosen.more)
    ]
    kept = Kept(Said, chosen.append)
    said = kept.entries
    done = {(s.network, s.data, s.seed) for s in said}
    start = time.perf_counter()
    missing = [job for job in jobs if job not in done]
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for number, found in enumerate(pool.map(partial(judged, more=chosen.more), missing)):
            kept.add(found)
            print(f"\r{number + 1} networks", end="", file=sys.stderr)
    trained = len({(s.network, s.data, s.seed) for s in said})
    print(f"\n{trained} networks, {len(said)} scans, {time.perf_counter() - start:.0f} s")
    print("\n".join(table(said)))
    took_more = sum(entry.samples > SAMPLES for entry in said)
    if took_more:
        print(f"scans that took more than {SAMPLES} samples: {took_more} of {len(said)}")
    costs = sorted(entry.forwards for entry in said)
    print(f"\nforwards of a scan: {costs[len(costs) // 2]} by the median, {costs[-1]} at most")
    told = [s for s in said if s.kind.startswith("input")]
    for labelled in (True, False):
        named = [s for s in told if s.labelled is labelled]
        hits = sum("NC404" in s.loud for s in named)
        print(f"wrong input named as such, labels {labelled}: {hits} of {len(named)}")
    print("\nalarms on what is harmless, labelled and not:")
    print("\n".join(by_kind(said)))
    for entry in said:
        if entry.alarm and is_harmless(entry):
            print(f"    {entry}")


if __name__ == "__main__":
    main()
