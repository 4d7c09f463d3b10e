"""How much of the lost accuracy a repair without data brings back.

Run from the repository root as ``python -m benchmarks.repair_without_data``. The convolutional
networks of ``small_networks.py``, trained on digits, on patches of photographs, and on digits on
patches of photographs; their statistics are lost, or replaced by those of a network of another
seed, in all norms or in all but the first; those of one norm are lost, or one number of them is
none; they are of an early epoch; and two cases that are mild: an average of the weights with the
statistics of the last step, and 3 % of the initial value left. What is brought back is
(repaired - broken) / (intact - broken), in accuracy on samples that were held out.

A few hundred samples do not tell a small harm from luck: beside the count of repairs with fewer
right answers than before stands that of those with significantly fewer, by the sign test on the
answers that change from right to wrong or back (McNemar, 1947), exact and one-sided, at 5 %. Of
repairs that change nothing for better or worse one in twenty is among these.
"""

import argparse
import copy
import math
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.kept_lines import Kept
from benchmarks.small_networks import (
    IMAGE_STYLES,
    RECIPES,
    Data,
    Trained,
    _network,
    _split,
    digits,
    patches,
)
from normcheck import NormcheckError, fix

OTHER_INPUT = ("one-dimensional", "transformer")
"""Styles that are refused: most of their norms stand behind no convolution over an image."""
GRAVE = ("lost", "all but the first lost", "foreign", "all but the first foreign")
"""Cases that a repair is for; their tables are by data set and by style."""
TOLD = 2.0
"""Points of accuracy that have to be lost for a share of them to mean anything."""
LUCK = 0.05
"""Level of the sign test by which a repair counts as surely worse."""

State = dict[str, torch.Tensor]


def composed() -> Data:
    """Digits, twice their size and in a colour, on patches of two photographs; 10 classes."""
    from sklearn.datasets import load_digits, load_sample_images

    random, found, photos = np.random.default_rng(2), load_digits(), load_sample_images().images
    images = []
    for digit in found.images / 16:
        photo = photos[random.integers(2)] / 255.0
        top, left = (random.integers(size - 32) for size in photo.shape[:2])
        behind = photo[top : top + 32 : 2, left : left + 32 : 2].transpose(2, 0, 1)
        large = np.kron(digit, np.ones((2, 2)))
        ink = sum(np.roll(large, step, (0, 1)) for step in ((0, 0), (1, 0), (0, 1), (1, 1))) / 4
        colour = 0.5 + 0.5 * random.random(3)
        images.append(0.8 * behind * (1 - ink) + ink * colour[:, None, None])
    x = np.stack(images)
    x = (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    return _split("composed", x, found.target)


@dataclass(frozen=True, slots=True)
class Said:
    """What became of one case."""

    network: str
    case: str
    intact: float
    broken: float
    repaired: float | None
    """None where it was refused."""
    why: str
    changed: float | None = None
    """Share of decisions on fields."""
    spoiled: int = 0
    """Held-out samples that were answered right before the repair, and wrong after it."""
    mended: int = 0
    """Held-out samples that were answered wrong before the repair, and right after it."""
    missed: int = 0
    """Held-out samples that the intact file answered right, and the repaired one wrong."""
    gained: int = 0
    """Held-out samples that the intact file answered wrong, and the repaired one right."""

    @property
    def share(self) -> float:
        """Of the lost accuracy that is back."""
        assert self.repaired is not None  # noqa: S101  (asked of repaired ones only)
        return (self.repaired - self.broken) / (self.intact - self.broken)

    @property
    def told(self) -> bool:
        """Whether it was repaired, and so much was lost that a share of it means anything."""
        return self.repaired is not None and self.intact - self.broken >= TOLD

    @property
    def worse(self) -> bool:
        """Whether it was repaired, and is the worse for it."""
        return self.repaired is not None and self.repaired < self.broken

    @property
    def surely_worse(self) -> bool:
        """Whether so many more answers are spoiled than mended that luck does not explain it."""
        return self.worse and _is_no_luck(self.mended, self.spoiled)

    @property
    def surely_harmed(self) -> bool:
        """Whether it is also surely worse than the intact file: damage may help by luck, too."""
        return self.surely_worse and _is_no_luck(self.gained, self.missed)

    @property
    def worse_than_intact(self) -> bool:
        """Whether it is also worse than before the damage, and not only less lucky."""
        return self.worse and self.repaired is not None and self.repaired < self.intact

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.network.split(" on ")[1].split(",")[0]

    @property
    def style(self) -> str:
        """Way of building."""
        return self.network.split(" on ")[0]


def _is_no_luck(right: int, wrong: int) -> bool:
    """Whether of the answers that changed hardly ever so few, or fewer, are right by chance."""
    changed = right + wrong
    ways = sum(math.comb(changed, fewer) for fewer in range(right + 1))
    return bool(ways / 2**changed <= LUCK)


def norms(model: nn.Module) -> list[str]:
    """Paths of the batch norms, in the order in which they are registered."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def _of(name: str, path: str) -> bool:
    return name.startswith(f"{path}.")


def broken(trained: Trained, other: Trained) -> Iterator[tuple[str, State]]:
    """The state dict of each case."""
    paths = norms(trained.model)
    lost = {
        f"{path}.{name}": torch.full_like(trained.state[f"{path}.{name}"], value)
        for path in paths
        for name, value in (("running_mean", 0.0), ("running_var", 1.0), ("num_batches_tracked", 0))
    }
    foreign = {name: other.state[name] for name in lost}
    own = {name: trained.state[name] for name in lost if _of(name, paths[0])}
    for case, bad in (("lost", lost), ("foreign", foreign)):
        yield case, trained.state | bad
        yield f"all but the first {case}", trained.state | bad | own
    # Another layer in each network; the digest of a name is the same on every machine.
    one = paths[zlib.crc32(trained.name.encode()) % len(paths)]
    yield "one layer lost", trained.state | {n: v for n, v in lost.items() if _of(n, one)}
    hit = trained.state[f"{one}.running_var"].clone()
    hit[len(hit) // 2] = torch.nan
    yield "one number lost", trained.state | {f"{one}.running_var": hit}
    early = {name: trained.early[name] for name in lost if ".running_" in name}
    yield "of an early epoch", trained.state | early
    yield "averaged weights", trained.state | trained.averaged
    left = {
        name: 0.97 * value + (0.03 if name.endswith("var") else 0.0)
        for name, value in trained.state.items()
        if ".running_" in name
    }
    yield "3 % of the initial value", trained.state | left


@torch.no_grad()
def right(trained: Trained, state: State) -> np.ndarray:
    """Which of the held-out samples are answered right in eval mode, ``(N,)``."""
    trained.model.load_state_dict(state)
    answers = trained.model.eval()(trained.data.test_x).argmax(1)
    found: np.ndarray = (answers == trained.data.test_y).numpy()
    return found


def measured(
    trained: Trained, other: Trained, *, guessed: bool, cases: Sequence[str] = ()
) -> Iterator[Said]:
    """What a repair makes of each case of one network, or of these."""
    whole = right(trained, trained.state)
    intact = 100 * float(whole.mean())
    shape = None if guessed else "x".join(map(str, trained.data.x.shape[1:]))
    for case, state in broken(trained, other):
        if cases and case not in cases:
            continue
        at_first = right(trained, state)
        before = 100 * float(at_first.mean())
        model = copy.deepcopy(trained.model)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "broken.pt")
            out = Path(folder) / "repaired.pt"
            try:
                result = fix(
                    f"{folder}/broken.pt", out, model=lambda m=model: m, without_data=True,
                    input_shape=shape,
                )  # fmt: skip
            except NormcheckError as error:
                yield Said(trained.name, case, intact, before, None, error.message)
                continue
            found = result.models[0].estimated
            assert found is not None and found.emergency is not None  # noqa: S101, PT018
            changed = found.proof.after.flips
            if result.refused:
                why = "; ".join(found.objections)
                yield Said(trained.name, case, intact, before, None, why, changed)
                continue
            at_last = right(trained, torch.load(out))
            yield Said(
                trained.name, case, intact, before, 100 * float(at_last.mean()),
                found.emergency.fitted_to, changed,
                int((at_first & ~at_last).sum()), int((at_last & ~at_first).sum()),
                int((whole & ~at_last).sum()), int((at_last & ~whole).sum()),
            )  # fmt: skip


def table(said: list[Said]) -> Iterator[str]:
    """A row for each case, as Markdown."""
    yield "| statistics | told by | intact | broken | repaired | brought back | refused | worse |"
    yield "|---|---|---|---|---|---|---|---|"
    cases: dict[str, list[Said]] = defaultdict(list)
    for entry in said:
        cases[entry.case].append(entry)
    for case, entries in cases.items():
        done = [e for e in entries if e.repaired is not None]
        told = [e for e in done if e.told]
        if not told:
            yield f"| {case} | none | | | | | {len(entries) - len(done)} of {len(entries)} | |"
            continue
        means = [np.mean([getattr(e, n) for e in told]) for n in ("intact", "broken", "repaired")]
        low, middle = np.quantile([e.share for e in told], (0.1, 0.5))
        counts = ("worse", "worse_than_intact", "surely_worse", "surely_harmed")
        worse, both, surely, harmed = (sum(getattr(e, n) for e in done) for n in counts)
        cells = " | ".join(f"{mean:.1f} %" for mean in means)
        yield (
            f"| {case} | {len(told)} | {cells} | {middle:.2f} by the median, "
            f"{low:.2f} in nine of ten | {len(entries) - len(done)} of {len(entries)} | "
            f"{worse} of {len(done)}, {both} below intact, {surely} surely, "
            f"{harmed} than intact, too |"
        )


def by(said: list[Said], name: str) -> Iterator[str]:
    """A row for each data set or style, as Markdown: medians of what is brought back."""
    yield "| " + " | ".join((name, *GRAVE, "refused", "worse")) + " |"
    yield "|---" * (len(GRAVE) + 3) + "|"
    groups: dict[str, list[Said]] = defaultdict(list)
    for entry in said:
        if entry.case in GRAVE:
            groups[getattr(entry, name)].append(entry)
    for group, entries in groups.items():
        cells = []
        for case in GRAVE:
            shares = [e.share for e in entries if e.case == case and e.told]
            cells.append(f"{np.median(shares):.2f} of {len(shares)}" if shares else "–")
        done = [e for e in entries if e.repaired is not None]
        refused = f"{len(entries) - len(done)} of {len(entries)}"
        worse, surely = (sum(getattr(e, n) for e in done) for n in ("worse", "surely_worse"))
        worse = f"{worse} of {len(done)}, {surely} surely"
        yield "| " + " | ".join((group, *cells, refused, worse)) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair_without_data")
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/.networks"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--styles", default="", help="only these, by commas")
    parser.add_argument("--sets", default="digits,patches,composed")
    parser.add_argument("--cases", default="", help="only these, by commas")
    parser.add_argument("--guessed", action="store_true", help="leave the shape to be guessed")
    parser.add_argument("--append", type=Path, help="keep what was measured as JSON lines there")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    wanted = [s for s in chosen.styles.split(",") if s] or list(IMAGE_STYLES)
    cases = [case for case in chosen.cases.split(",") if case]
    sets = [build() for build in (digits, patches, composed) if build.__name__ in chosen.sets]
    kept = Kept(Said, chosen.append)
    said = kept.entries
    done = {entry.network for entry in said}
    for style in wanted:
        for data in sets:
            for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
                # Of each two that follow one another each is the other's other seed.
                pair = [
                    _network(chosen.folder, style, IMAGE_STYLES[style], data, s, RECIPES[0])
                    for s in (seed, seed ^ 1)
                ]
                if pair[0].name in done:
                    continue
                kept.add(list(measured(*pair, guessed=chosen.guessed, cases=cases)))
                print(f"\r{pair[0].name:60}", end="", file=sys.stderr)
    print()
    images = [s for s in said if not s.network.startswith(OTHER_INPUT)]
    for lines in (table(images), by(images, "data"), by(images, "style")):
        print("\n".join(lines) + "\n")
    for entry in (e for e in images if e.worse):
        print(f"    {entry}")
    others = [s for s in said if s.network.startswith(OTHER_INPUT)]
    print(f"other input: refused in {sum(s.repaired is None for s in others)} of {len(others)}")


if __name__ == "__main__":
    main()
