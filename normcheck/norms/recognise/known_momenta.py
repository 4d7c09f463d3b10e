"""Momenta that a library builds its batch norms with, known by the names of its models.

A state dict does not hold the momentum. Where the names of a model are those of one library, its
default is a better guess than torch's. Each row was looked up in the code of the release named.
"""

import re
from collections.abc import Collection

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.lazy_pattern import lazy_pattern


@lazy_dataclass()
class LibraryMomentum:
    """One library's models."""

    library: str
    """With the release that was looked at, and the file that has the numbers."""
    names: tuple[re.Pattern[str], ...]
    """Of tensors, all of which must be there."""
    momenta: tuple[tuple[re.Pattern[str], float], ...]
    """By the paths of its norms; the first that fits."""
    eps: float | None = None


KNOWN = (
    LibraryMomentum(
        "pytorch-tabnet 4.1 (tab_network.py)",
        (
            lazy_pattern(r"(^|\.)encoder\.initial_bn\.running_mean$"),
            lazy_pattern(
                r"(^|\.)encoder\.feat_transformers\.0\..*glu_layers\.0\.bn\.bn\.running_mean$"
            ),
        ),
        (
            (lazy_pattern(r"(^|\.)initial_bn$"), 0.01),
            (lazy_pattern(r"\.bn\.bn$"), 0.02),
        ),
    ),
    LibraryMomentum(
        "efficientnet_pytorch 0.7.1 (utils.py: batch_norm_momentum 0.99 of the old value)",
        (
            lazy_pattern(r"(^|\.)_conv_stem\.weight$"),
            lazy_pattern(r"(^|\.)_blocks\.0\._depthwise_conv\.weight$"),
        ),
        ((lazy_pattern(r"(^|\.|_)bn[012]$"), 0.01),),
        1e-3,
    ),
    # The shares of the old value in TensorFlow, which torch takes for those of the new one.
    LibraryMomentum(
        "transformers 5.24 (modeling_mobilenet_v1.py)",
        (lazy_pattern(r"(^|\.)conv_stem\.normalization\.running_mean$"),),
        ((lazy_pattern(r"\.normalization$"), 0.9997),),
        1e-3,
    ),
    LibraryMomentum(
        "transformers 5.24 (modeling_mobilenet_v2.py)",
        (lazy_pattern(r"(^|\.)conv_stem\.first_conv\.normalization\.running_mean$"),),
        ((lazy_pattern(r"\.normalization$"), 0.997),),
        1e-3,
    ),
    LibraryMomentum(
        "transformers 5.24 (configuration_efficientnet.py)",
        (
            lazy_pattern(r"(^|\.)embeddings\.batchnorm\.running_mean$"),
            lazy_pattern(r"\.depthwise_conv\.depthwise_norm\.running_mean$"),
        ),
        (
            (lazy_pattern(r"\.expand_bn$"), 0.1),
            (lazy_pattern(r"\.(?:batchnorm|depthwise_norm|project_bn|top_bn)$"), 0.99),
        ),
        1e-3,
    ),
)


_ENDS = (
    "bn.running_mean", "conv_stem.weight", "depthwise_conv.weight", "normalization.running_mean",
    "batchnorm.running_mean", "depthwise_norm.running_mean",
)  # fmt: skip
"""What every name ends in that a row asks for: of most models there is none."""


def known_library(names: Collection[str]) -> LibraryMomentum | None:
    """The library whose models have such names; None where it is none that is known here."""
    likely = [name for name in names if name.endswith(_ENDS)]
    for known in KNOWN:
        if all(any(pattern.search(name) for name in likely) for pattern in known.names):
            return known
    return None


def momentum_at(known: LibraryMomentum, path: str) -> float | None:
    """What the library gives a norm at ``path`` by default."""
    return next((m for pattern, m in known.momenta if pattern.search(path)), None)
