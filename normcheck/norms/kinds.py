"""The table of knowledge: what each normalization does in training and in eval mode.

Shown by ``normcheck kinds`` and used in every report. The facts are those of the
classes' own documentation in torch, torchvision, timm, detectron2 and transformers; those of
kinds that fewer libraries have are in ``rare_kinds.py``.
"""

from normcheck.norms.kind import (
    BATCH_EVAL,
    BATCH_SIZE,
    BATCH_TRAIN,
    RUNNING,
    Family,
    NormKind,
    batch_kind,
    frozen_kind,
    own_input_kind,
)
from normcheck.norms.rare_kinds import RARE_KINDS

__all__ = ["BY_NAME", "KINDS", "Family", "NormKind", "batch_norm", "of_class"]

_TORCH_BN = "torch.nn.modules.batchnorm"
_TORCH_IN = "torch.nn.modules.instancenorm"
_TORCH_NORM = "torch.nn.modules.normalization"
_RMS_CALLED_LAYER_NORM = tuple(
    f"*.{model}LayerNorm"
    for model in (
        "CpmAnt", "ImageGPT", "LongT5", "MT5", "Pix2Struct", "Pop2Piano", "SwitchTransformers",
        "T5", "UMT5", "Udop",
    )
)  # fmt: skip
"""Classes of transformers that are called LayerNorm and subtract no mean."""
_INSTANCE_SUITS = "style transfer and image generation"

KINDS = (
    batch_kind(
        "BatchNorm1d",
        "batch (and L)",
        "MLPs, PointNets, 1-D CNNs",
        f"{_TORCH_BN}.BatchNorm1d",
        f"{_TORCH_BN}.LazyBatchNorm1d",
    ),
    batch_kind(
        "BatchNorm2d",
        "batch, H, W",
        "CNNs on images",
        f"{_TORCH_BN}.BatchNorm2d",
        f"{_TORCH_BN}.LazyBatchNorm2d",
        "*.BatchNormAct2d",
    ),
    batch_kind(
        "BatchNorm3d",
        "batch, D, H, W",
        "CNNs on video and volumes",
        f"{_TORCH_BN}.BatchNorm3d",
        f"{_TORCH_BN}.LazyBatchNorm3d",
    ),
    batch_kind(
        "SyncBatchNorm",
        "batch of all GPUs",
        "CNNs trained on several GPUs with few samples on each",
        f"{_TORCH_BN}.SyncBatchNorm",
        "*.SyncBatchNorm",
        "*.SyncBatchNormAct",
        "*.NaiveSyncBatchNorm",
    ),
    batch_kind("BatchNorm", "batch (and space)", "CNNs"),
    NormKind(
        "fused conv-BatchNorm",
        Family.BATCH,
        "batch, H, W",
        BATCH_TRAIN,
        BATCH_EVAL,
        RUNNING,
        BATCH_SIZE,
        "γ and β per feature beside the convolution's weight",
        "quantization-aware training",
        same_in_both_modes=False,
    ),
    frozen_kind(
        "FrozenBatchNorm2d",
        "torchvision.ops.misc.FrozenBatchNorm2d",
        "detectron2.layers.batch_norm.FrozenBatchNorm2d",
        "*.FrozenBatchNorm2d",
        "*.FrozenBatchNormAct2d",
        "*.FrozenBatchNorm",
    ),
    own_input_kind(
        "LayerNorm",
        Family.LAYER,
        "features",
        "γ and β per feature (β optional)",
        "transformers, RNNs, NLP; any batch size",
        f"{_TORCH_NORM}.LayerNorm",
        "*.ChanLN",
        "*.CumLN",
        "*.FeatsGlobLN",
        "*.GlobLN",
    ),
    own_input_kind(
        "LayerNorm2d",
        Family.LAYER,
        "channels",
        "γ and β per channel",
        "ConvNeXt-like CNNs (channels first)",
        "*.LayerNorm2d",
        "*.LayerNormAct2d",
    ),
    own_input_kind(
        "GroupNorm",
        Family.GROUP,
        "groups of C, H, W",
        "γ and β per channel",
        "CNNs with small batches: detection, segmentation, diffusion",
        f"{_TORCH_NORM}.GroupNorm",
        "*.GroupNormAct",
        "*.GroupNorm1",
    ),
    own_input_kind(
        "InstanceNorm1d",
        Family.INSTANCE,
        "L, each channel",
        "γ and β per channel where affine",
        "sequences of varying level: audio, sensors",
        f"{_TORCH_IN}.InstanceNorm1d",
        f"{_TORCH_IN}.LazyInstanceNorm1d",
    ),
    own_input_kind(
        "InstanceNorm2d",
        Family.INSTANCE,
        "H, W, each channel",
        "γ and β per channel where affine",
        _INSTANCE_SUITS,
        f"{_TORCH_IN}.InstanceNorm2d",
        f"{_TORCH_IN}.LazyInstanceNorm2d",
    ),
    own_input_kind(
        "InstanceNorm3d",
        Family.INSTANCE,
        "D, H, W, each channel",
        "γ and β per channel where affine",
        "medical volumes (nnU-Net)",
        f"{_TORCH_IN}.InstanceNorm3d",
        f"{_TORCH_IN}.LazyInstanceNorm3d",
    ),
    NormKind(
        "tracking InstanceNorm",
        Family.INSTANCE,
        "space; eval: stored",
        "each sample's own; updates running_mean and running_var",
        "running_mean and running_var, averages over samples: another function than in training",
        RUNNING,
        "none in training; none in eval mode",
        "γ and β per channel where affine",
        "rarely what is wanted: leave track_running_stats off",
        same_in_both_modes=False,
    ),
    own_input_kind(
        "RMSNorm",
        Family.RMS,
        "features, no mean",
        "γ per feature, no β",
        "large language models",
        f"{_TORCH_NORM}.RMSNorm",
        "*.SimpleNorm",
        *_RMS_CALLED_LAYER_NORM,
    ),
    own_input_kind(
        "RMSNorm (1 + weight)",
        Family.RMS,
        "features, no mean",
        "γ - 1 per feature: the stored weight is added to 1",
        "Gemma and Qwen3-Next models",
        "*.GemmaRMSNorm",
        "*.Gemma2RMSNorm",
        "*.Gemma3RMSNorm",
        "*.RecurrentGemmaRMSNorm",
        "*.Qwen3NextRMSNorm",
    ),
    own_input_kind(
        "LocalResponseNorm",
        Family.LOCAL_RESPONSE,
        "nearby channels",
        "none",
        "AlexNet and GoogLeNet of 2012 to 2014",
        f"{_TORCH_NORM}.LocalResponseNorm",
        f"{_TORCH_NORM}.CrossMapLRN2d",
    ),
    own_input_kind(
        "LayerNorm or GroupNorm",
        Family.PER_SAMPLE,
        "one sample",
        "γ and β per feature",
        "a state dict does not tell which; both work with any batch size",
    ),
    NormKind(
        "observation norm",
        Family.OBSERVATION,
        "all samples seen",
        "the running mean and spread; updates running_mean and running_var with every batch",
        "the running mean and spread, accumulated in training",
        RUNNING,
        "none: the statistics are of all observations",
        "none",
        "policies of reinforcement learning, whose inputs have units of their own",
        same_in_both_modes=False,
    ),
    NormKind(
        "custom norm",
        Family.CUSTOM,
        "unknown",
        "unknown: its code is not in the file",
        "unknown: its code is not in the file",
        "unknown",
        "unknown",
        "as saved",
        "see its own code",
        same_in_both_modes=False,
    ),
    *RARE_KINDS,
)

BY_NAME = {kind.name: kind for kind in KINDS}
_BY_CLASS = {path: kind for kind in KINDS for path in kind.classes}


def of_class(class_path: str) -> NormKind | None:
    """The kind of a class by its path, or by its name where that says enough.

    >>> of_class("torch.nn.modules.batchnorm.BatchNorm2d").name
    'BatchNorm2d'
    """
    return _BY_CLASS.get(class_path) or _BY_CLASS.get(f"*.{class_path.rpartition('.')[2]}")


def batch_norm(dimensions: int | None) -> NormKind:
    """BatchNorm over so many spatial dimensions (0 and 1 are both BatchNorm1d); None: unknown."""
    if dimensions is None or dimensions > 3:
        return BY_NAME["BatchNorm"]
    return BY_NAME[f"BatchNorm{max(1, dimensions)}d"]
