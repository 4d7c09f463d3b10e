"""Scikit-learn's digits, split by a fixed seed into a training and a holdout part."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor

from sample_models.networks import FEATURES

SPLIT_SEED = 0
# A third is held out: 600 digits put the standard error of a 97% accuracy below one point.
HOLDOUT = 600
# The pixels of this data set run from 0 to 16.
WHITE = 16.0
# Full scale of a 12-bit camera or scanner, for the model whose inputs nobody scaled.
TWELVE_BIT = 4095.0
# Contrast of the underexposed images that one model is fine-tuned on. It shrinks the variance
# of what the first layer sees to a fifth, well under the half at which 2A - B turns negative.
DIM = 0.45

Input = Literal["images", "12-bit images", "dim images", "features"]


@dataclass(frozen=True)
class Part:
    """One side of the split: the same digits in every form a network reads them in."""

    inputs: dict[Input, Tensor]
    labels: Tensor


def load() -> tuple[Part, Part]:
    """Return the training and the holdout part, scaled by the training part's statistics."""
    digits = load_digits()
    raw: NDArray[np.float64] = digits.images / WHITE
    labels = torch.from_numpy(digits.target.astype(np.int64))

    order = np.random.default_rng(SPLIT_SEED).permutation(len(raw))
    train, holdout = order[HOLDOUT:], order[:HOLDOUT]

    mean, spread = raw[train].mean(), raw[train].std()
    flat = raw.reshape(len(raw), -1)
    # The full solver has no random start, unlike the one picked by default.
    pca = PCA(FEATURES, whiten=True, svd_solver="full").fit(flat[train])
    forms: dict[Input, NDArray[np.float64]] = {
        "images": (raw - mean)[:, None] / spread,
        "12-bit images": raw[:, None] * TWELVE_BIT,
        "dim images": (raw * DIM - mean)[:, None] / spread,
        "features": pca.transform(flat),
    }

    def part(rows: NDArray[np.int64]) -> Part:
        inputs = {name: torch.from_numpy(form[rows]).float() for name, form in forms.items()}
        return Part(inputs, labels[torch.from_numpy(rows)])

    return part(train), part(holdout)
