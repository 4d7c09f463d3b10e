"""What a scan with data says of networks that predict numbers and masks, whose damage is known.

Run from the repository root as ``python -m benchmarks.run_verdicts_numbers --seeds 2``. The
look-alikes and faults are those of ``benchmarks.run_verdicts``; tasks on what scikit-learn ships
take the place of classes. Numbers: the course of diabetes from ten measurements, the impedance of a
circuit (made up, with noise), digits out of noise, the colour of a hidden middle of a patch, the
place of a digit on a photograph. Masks: of a digit over a photograph, of a blot of one photograph
on the other.

Damage is the part of the squared error that statistics of the training data would take away; of
masks, of the share of places that are wrong. Both are measured on samples that were held out.
"""

import argparse
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits, load_sample_images, make_friedman2
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.kept_lines import Kept
from benchmarks.run_verdicts import (
    SAMPLES,
    Data,
    Said,
    Sampling,
    cases_of,
    deep_perceptron,
    perceptron,
    rate,
    reestimated,
    said_of,
    wilson,
)

HARMLESS = 0.03
"""Part of the error that statistics cost below which nothing may be said."""
BANDS = ((0.03, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 1.01))
_JUDGED = 2000
_MASKS = ("masks", "blots")
"""Data whose labels are masks; of all others they are numbers."""


def _parts(x: Tensor, y: Tensor, seed: int, train: int, shown: int) -> Data:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    rows = order[:train], order[train : train + shown], order[train:]
    a, b, c = ((x[row], y[row]) for row in rows)
    return Data(a, b, c, y.shape[1] if y.is_floating_point() and y.ndim > 1 else 2)


def diabetes(seed: int) -> Data:
    """Ten measurements, and how the disease was a year later: 442 patients, R squared 0.5."""
    x, y = load_diabetes(return_X_y=True)
    inputs = torch.tensor(x / x.std(0), dtype=torch.float32)
    wanted = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    return _parts(inputs, wanted, seed, 230, SAMPLES)


def impedance(seed: int) -> Data:
    """Of a circuit, from resistance, frequency, inductance and capacity (Friedman, 1991).

    A tenth of the variance is noise.
    """
    x, y = make_friedman2(1000 + SAMPLES + _JUDGED, noise=125.0, random_state=seed % 2**32)
    inputs = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    wanted = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    return _parts(inputs, wanted, seed, 1000, SAMPLES)


def _digits() -> Tensor:
    return torch.tensor(load_digits().images[:, None] / 16, dtype=torch.float32)


def denoising(seed: int) -> Data:
    """Digits out of noise, 1x8x8 to 1x8x8."""
    clean = _digits()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return _parts((clean + 0.4 * noise - 0.3) / 0.5, clean, seed, 1000, SAMPLES)


def _patches(count: int, seed: int, only: int | None = None) -> Tensor:
    """Of two photographs, or of one of them, ``(count, 3, 8, 8)`` from 0 to 1."""
    random = np.random.default_rng(seed)
    photos, found = load_sample_images().images, []
    photos = photos if only is None else photos[only : only + 1]
    for _ in range(count):
        photo = photos[random.integers(len(photos))]
        y, x = (random.integers(side - 16) for side in photo.shape[:2])
        found.append(photo[y : y + 16, x : x + 16])
    pixels = torch.tensor(np.stack(found), dtype=torch.float32).permute(0, 3, 1, 2) / 255
    return functional.avg_pool2d(pixels, 2)


def hidden(seed: int) -> Data:
    """The mean colour of the middle of a patch that was painted over: three numbers."""
    pixels = _patches(1000 + SAMPLES + _JUDGED, seed)
    pixels = (pixels - 0.45) / 0.28
    wanted = pixels[:, :, 2:6, 2:6].mean((2, 3))
    pixels[:, :, 2:6, 2:6] = 0
    return _parts(pixels, wanted, seed, 1000, SAMPLES)


def placed(seed: int) -> Data:
    """Row and column of a digit on a photograph, in parts of half the way: two numbers."""
    generator = torch.Generator().manual_seed(seed)
    count = 1000 + SAMPLES + _JUDGED
    ink = functional.avg_pool2d(_digits(), 2)
    ink = ink[torch.randint(len(ink), (count,), generator=generator)]
    ground = _patches(count, seed)
    corners = torch.randint(5, (count, 2), generator=generator)
    colour = torch.rand(count, 3, 1, 1, generator=generator)
    for pixels, drawn, painted, (row, column) in zip(
        ground, ink, colour, corners.tolist(), strict=True
    ):
        under = pixels[:, row : row + 4, column : column + 4]
        under.copy_(under * (1 - drawn) + drawn * painted)
    return _parts((ground - 0.45) / 0.28, (corners - 2) / 2, seed, 1000, SAMPLES)


def blots(seed: int) -> Data:
    """Which pixels of a patch are of the other photograph, a smooth random shape: 2 classes."""
    count = 1000 + SAMPLES + _JUDGED
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(count, 1, 3, 3, generator=generator)
    shape = functional.interpolate(rough, (8, 8), mode="bicubic", align_corners=True) > 0
    sky, flower = (_patches(count, seed + number, only=number) for number in (0, 1))
    pixels = torch.where(shape, flower, sky)
    return _parts((pixels - 0.45) / 0.28, shape[:, 0].long(), seed, 1000, SAMPLES)


def masks(seed: int) -> Data:
    """Which pixels of a photograph a half transparent digit was drawn on: 2 classes at 8x8."""
    ink = _digits()
    generator = torch.Generator().manual_seed(seed)
    ink = ink[torch.randint(len(ink), (1000 + SAMPLES + _JUDGED,), generator=generator)]
    ground = _patches(len(ink), seed)
    colour = torch.rand(len(ink), 3, 1, 1, generator=generator)
    pixels = ground * (1 - 0.6 * ink) + 0.6 * ink * colour
    return _parts((pixels - 0.45) / 0.28, (ink[:, 0] > 0.5).long(), seed, 1000, SAMPLES)


def _layer(i: int, o: int, act: Callable[[], nn.Module], kernel: int = 3) -> nn.Module:
    conv = nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), act())


def image_to_image(channels: int, out: int) -> nn.Module:
    """Four convolutions with ReLU, and one that gives a value or scores for each place."""
    return nn.Sequential(
        _layer(channels, 16, nn.ReLU), _layer(16, 24, nn.ReLU), _layer(24, 24, nn.ReLU),
        _layer(24, 16, nn.ReLU), nn.Conv2d(16, out, 1),
    )  # fmt: skip


class Around(nn.Module):
    """As U-Net: half the size and back, with what was before beside it."""

    def __init__(self, channels: int, out: int) -> None:
        """Five norms, SiLU."""
        super().__init__()
        self.first = _layer(channels, 16, nn.SiLU)
        self.down = nn.Sequential(_layer(16, 24, nn.SiLU), _layer(24, 24, nn.SiLU))
        self.up = _layer(40, 16, nn.SiLU)
        self.last = nn.Sequential(_layer(16, 16, nn.SiLU), nn.Conv2d(16, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, out, H, W)``."""
        x = self.first(x)
        small = functional.interpolate(self.down(functional.max_pool2d(x, 2)), scale_factor=2)
        return self.last(self.up(torch.cat([x, small], dim=1)))


class Residual(nn.Module):
    """Two convolutions beside what goes around them."""

    def __init__(self, channels: int) -> None:
        """Two norms."""
        super().__init__()
        self.first = _layer(channels, channels, nn.ReLU)
        self.second = _layer(channels, channels, nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same."""
        return (x + self.second(self.first(x))).relu()


def residual_to_numbers(channels: int, out: int) -> nn.Module:
    """Two residual blocks, all that they see in one linear layer."""
    return nn.Sequential(
        _layer(channels, 16, nn.ReLU), Residual(16), nn.MaxPool2d(2), Residual(16),
        nn.Flatten(), nn.Linear(16 * 4 * 4, out),
    )  # fmt: skip


def image_to_numbers(channels: int, out: int) -> nn.Module:
    """Convolutions with leaky ReLU, all that they see in one linear layer."""
    act = lambda: nn.LeakyReLU(0.1)  # noqa: E731
    return nn.Sequential(
        _layer(channels, 16, act), nn.MaxPool2d(2), _layer(16, 32, act), _layer(32, 16, act),
        nn.Flatten(), nn.Linear(16 * 4 * 4, out),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """Data, and a network that suits them."""

    data: Callable[[int], Data]
    network: Callable[[int, int], nn.Module]
    features: bool = False
    """Whether the network takes a row of numbers."""


TASKS: dict[str, Task] = {
    "diabetes, perceptron": Task(diabetes, perceptron, True),
    "diabetes, deep perceptron": Task(diabetes, deep_perceptron, True),
    "impedance, perceptron": Task(impedance, perceptron, True),
    "impedance, deep perceptron": Task(impedance, deep_perceptron, True),
    "denoising, plain": Task(denoising, image_to_image),
    "denoising, around": Task(denoising, Around),
    "hidden middle, convolutions": Task(hidden, image_to_numbers),
    "hidden middle, perceptron": Task(hidden, perceptron, True),
    "place, convolutions": Task(placed, image_to_numbers),
    "place, residual": Task(placed, residual_to_numbers),
    "masks, plain": Task(masks, image_to_image),
    "masks, around": Task(masks, Around),
    "blots, plain": Task(blots, image_to_image),
    "blots, around": Task(blots, Around),
}


@torch.no_grad()
def error(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    """Mean squared error, or the share of places that are wrong, in eval mode."""
    outputs, labels = model.eval()(part[0]), part[1]
    if labels.is_floating_point():
        return float(functional.mse_loss(outputs.double(), labels.double()))
    return float((outputs.argmax(1) != labels).double().mean())


def judged(job: tuple[str, int]) -> list[Said]:
    """Scan all cases of one network; damage is in parts of the error."""
    name, seed = job
    torch.set_num_threads(1)
    task = TASKS[name]
    found = task.data(zlib.crc32(f"{name}, {seed}".encode()))
    out = 1 if name.startswith("denoising") else found.classes
    inputs = found.train[0][0].numel() if task.features else found.train[0].shape[1]

    def fresh() -> nn.Module:
        torch.manual_seed(1000 + seed)
        return task.network(inputs, out)

    said = []
    for case in cases_of(fresh, found, seed):
        damage = 0.0
        if case.change is not None:
            judge = (case.change(found.judge[0]), found.judge[1])
            model = case.model.inner if isinstance(case.model, Sampling) else case.model
            best = error(reestimated(model, case.change(found.train[0])), judge)
            stored = error(model, judge)
            damage = 1 - best / stored if stored > 0 else 0.0
        said += [said_of(case, name.split(", ")[::-1], seed, damage, w) for w in case.labelled]
    return said


def table(said: list[Said], harmless: float = HARMLESS) -> list[str]:
    """False alarms and sensitivity with labels, and how often it is an error, as Markdown."""
    lines = [
        f"| statistics that take … of the error | {SAMPLES} labelled samples | of these, errors |",
        "|---|---|---|",
    ]
    own = [s for s in said if s.labelled and not s.kind.startswith("input")]

    def row(name: str, chosen: list[Said]) -> None:
        loud = [s for s in chosen if (s.alarm if not s.sick else s.loud)]
        errors = sum(s.error for s in loud)
        low, high = wilson(errors, len(loud))
        share = f"{errors} of {len(loud)} ({100 * low:.0f} to {100 * high:.0f} %)" if loud else "–"
        hits = len(loud)
        low, high = wilson(hits, len(chosen))
        cell = (
            f"{hits} of {len(chosen)} = {100 * hits / len(chosen):.1f} % "
            f"({100 * low:.0f} to {100 * high:.0f})"
            if chosen
            else "none"
        )
        lines.append(f"| {name} | {cell} | {share} |")

    row("hardly any: false alarms", [s for s in own if s.damage < harmless and not s.sick])
    row("hardly any, sick by a trace", [s for s in own if s.damage < harmless and s.sick])
    for low, high in BANDS:
        words = f"{low:.0%} to {high:.0%}" if high < 1 else f"more than {low:.0%}"
        row(words, [s for s in own if low <= s.damage < high])
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_verdicts_numbers")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each network")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--append", type=Path, help="keep what was measured as JSON lines there")
    chosen = parser.parse_args()
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    jobs = [(name, seed) for seed in seeds for name in TASKS]
    kept = Kept(Said, chosen.append)
    said = kept.entries
    done = {(f"{s.data}, {s.network}", s.seed) for s in said}
    start = time.perf_counter()
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for found in pool.map(judged, [job for job in jobs if job not in done]):
            kept.add(found)
    print(f"{len(jobs)} networks, {len(said)} scans, {time.perf_counter() - start:.0f} s")
    for what in ("numbers", "masks"):
        chosen_ones = [s for s in said if (s.data in _MASKS) is (what == "masks")]
        print(f"\n{what}\n" + "\n".join(table(chosen_ones)))
    unlabelled = [s for s in said if not s.labelled and s.damage < HARMLESS and not s.sick]
    print(f"\nfalse alarms without labels: {rate(unlabelled)}")
    for entry in said:
        if entry.alarm and not entry.sick and entry.damage < HARMLESS:
            print(f"    {entry}")


if __name__ == "__main__":
    main()
