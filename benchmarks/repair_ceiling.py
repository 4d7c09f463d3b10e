"""What random images could bring back at most: those with the second-order statistics of the data.

Run from the repository root as ``python -m benchmarks.repair_ceiling``. The networks of
``repair_without_data.py`` with all statistics lost, or all but the first norm's. Statistics are
estimated, as ``fix --without-data`` does it, with each norm normalising by the images that there
are; on the fields that it draws; with the first norm normalising by what it has stored instead; on
fields of one smoothness; on Gaussian
images with the true mean and covariance of the training's images, place by place; and on these
themselves; all in one batch of as many images. What is brought back is
(repaired - broken) / (intact - broken).
"""

import argparse
import copy
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.repair_without_data import OTHER_INPUT, TOLD, State, composed, norms
from benchmarks.small_networks import (
    IMAGE_STYLES,
    RECIPES,
    Data,
    Trained,
    _network,
    digits,
    patches,
)
from normcheck.live.fields.decisions import looked_at
from normcheck.live.fields.fitted_field import likeliest_field, usual_field
from normcheck.live.fields.smooth_fields import smooth_fields
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes

IMAGES = 256


def gaussian(data: Data, seed: int) -> Tensor:
    """Gaussian images with the mean and the covariance of the images, place by place."""
    flat = data.x.flatten(1).double()
    mean = flat.mean(0)
    _, scales, axes = torch.linalg.svd(flat - mean, full_matrices=False)
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(IMAGES, len(scales), generator=generator).double()
    made = mean + (white * scales / len(flat) ** 0.5) @ axes
    return made.float().reshape(IMAGES, *data.x.shape[1:])


def repaired(
    trained: Trained, state: State, images: Tensor, kept: int, *, by_stored: bool = False
) -> float:
    """Accuracy in percent with statistics of these images, but for the first ``kept`` norms.

    Args:
        trained: The network.
        state: With its statistics lost.
        images: In place of data.
        kept: How many norms keep their statistics.
        by_stored: Whether these normalise by what they have stored, and not by the images.
    """
    model = copy.deepcopy(trained.model)
    model.load_state_dict(state)
    modules = dict(model.eval().named_modules())
    paths = norms(model)
    for path in paths[kept if by_stored else 0 :]:
        modules[path].momentum = 1.0
        modules[path].train()
    with torch.no_grad():
        model(images)
    own = {n: v for n, v in state.items() if n.startswith(tuple(f"{p}." for p in paths[:kept]))}
    return 100 * trained.accuracy(model.state_dict() | own)


def measured(trained: Trained) -> Iterator[tuple[str, str, float]]:
    """The case, the images, and the share that they bring back."""
    intact = 100 * trained.accuracy(trained.state)
    shape = tuple(int(n) for n in trained.data.x.shape[1:])
    paths = norms(trained.model)
    lost = {
        name: torch.full_like(value, 0.0 if name.endswith("mean") else 1.0)
        if ".running_" in name
        else value
        for name, value in trained.state.items()
    }
    first = {n: v for n, v in trained.state.items() if n.startswith(f"{paths[0]}.")}
    for kept, case, state in ((0, "lost", lost), (1, "all but the first lost", lost | first)):
        broken = 100 * trained.accuracy(state)
        if intact - broken < TOLD:
            continue
        field = usual_field((shape[0], shape[1], shape[2]))
        if kept:
            model = copy.deepcopy(trained.model)
            model.load_state_dict(state)
            forward = Forward(model.eval(), torch.device("cpu"))
            regimes = Regimes(forward, reachable(model), set())
            seen = looked_at(regimes, field.drawn(2, 0))
            field = likeliest_field(regimes, seen.collected, seen.first, field.shape)
        plain = smooth_fields(IMAGES, field.shape, field.smoothness, 1)
        offsets = torch.tensor(field.offsets).reshape(1, -1, 1, 1)
        drawn = field.drawn(IMAGES, 1)
        if kept:
            by_stored = repaired(trained, state, drawn, kept, by_stored=True)
            yield case, "its fields, by what is stored", (by_stored - broken) / (intact - broken)
        for name, images in (
            ("fields of fix --without-data", drawn),
            ("fields of one smoothness", field.factor * plain + offsets),
            ("Gaussian, true covariance", gaussian(trained.data, 1)),
            ("the images themselves", trained.data.x[:IMAGES]),
        ):
            share = (repaired(trained, state, images, kept) - broken) / (intact - broken)
            yield case, name, share


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair_ceiling")
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/.networks"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", default="digits,patches,composed")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    shares: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for build in (digits, patches, composed):
        if build.__name__ not in chosen.sets.split(","):
            continue
        data = build()
        for style, make in IMAGE_STYLES.items():
            for seed in range(chosen.seeds if style not in OTHER_INPUT else 0):
                trained = _network(chosen.folder, style, make, data, seed, RECIPES[0])
                for case, name, share in measured(trained):
                    shares[case, name, data.name].append(share)
                    shares[case, name, "all"].append(share)
    sets = list(dict.fromkeys(name for _, _, name in shares))
    print("| statistics | images |", " | ".join(sets), "|")
    print("|---|---|" + "---|" * len(sets))
    for case, name in dict.fromkeys((c, n) for c, n, _ in shares):
        cells = (f"{np.median(shares[case, name, of]):.2f}" for of in sets)
        print(f"| {case} | {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
