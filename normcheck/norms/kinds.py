"""The table of knowledge: what each normalization does in training and in eval mode.

Shown by ``normcheck kinds`` and used in every report. The facts are those of the
classes' own documentation in torch, torchvision, timm, detectron2 and transformers.
"""

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """Kinds that are judged alike."""

    BATCH = "batch"
    """Normalises over the batch, keeps running statistics for eval mode."""
    FROZEN_BATCH = "frozen batch"
    """Applies stored statistics in both modes."""
    LAYER = "layer"
    GROUP = "group"
    INSTANCE = "instance"
    RMS = "rms"
    LOCAL_RESPONSE = "local response"
    PER_SAMPLE = "per sample"
    """Affine parameters in a state dict that could be LayerNorm's or GroupNorm's."""
    OBSERVATION = "observation"
    """Normalises what a policy is given by running statistics of all it was given."""
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class NormKind:
    """What is known of one kind of normalization."""

    name: str
    family: Family
    over: str
    """What mean and variance are taken over, short enough for a table column."""
    train: str
    """Which statistics training mode uses, and what it changes."""
    eval: str
    """Which statistics eval mode uses."""
    eval_uses: str
    """The same for a table column."""
    batch_size: str
    """How the result depends on the batch."""
    parameters: str
    suits: str
    same_in_both_modes: bool
    """Whether train and eval outputs are equal for equal input."""
    classes: tuple[str, ...] = ()
    """Class paths that are this kind; ``*.Name`` for a class of that name in any module."""


_OWN_INPUT = "its own input"
_RUNNING = "running stats"
_SAME = "the current input's, as in training; the outputs of both modes are equal"
_BATCH_TRAIN = "the mini-batch's; updates running_mean and running_var with momentum"
_BATCH_EVAL = "running_mean and running_var, accumulated in training"
_BATCH_SIZE = "noisy in training below 8 samples a batch; none in eval mode"
_GAMMA_BETA = "γ (weight) and β (bias) per feature"
_NO_BATCH = "none: each sample by itself, a batch of one works"


def _batch(name: str, over: str, suits: str, *classes: str) -> NormKind:
    return NormKind(
        name,
        Family.BATCH,
        over,
        _BATCH_TRAIN,
        _BATCH_EVAL,
        _RUNNING,
        _BATCH_SIZE,
        _GAMMA_BETA,
        suits,
        same_in_both_modes=False,
        classes=classes,
    )


def _frozen(name: str, *classes: str) -> NormKind:
    return NormKind(
        name,
        Family.FROZEN_BATCH,
        "nothing: stored",
        "the stored running_mean and running_var; nothing is updated",
        "the stored running_mean and running_var",
        "stored stats",
        "none: the statistics are constants",
        "γ and β per feature, as buffers",
        "fine-tuning a pretrained backbone with small batches (detection)",
        same_in_both_modes=True,
        classes=classes,
    )


def _own_input(
    name: str, family: Family, over: str, parameters: str, suits: str, *classes: str
) -> NormKind:
    return NormKind(
        name,
        family,
        over,
        "the current input's; nothing is stored",
        _SAME,
        _OWN_INPUT,
        _NO_BATCH,
        parameters,
        suits,
        same_in_both_modes=True,
        classes=classes,
    )


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
    _batch(
        "BatchNorm1d",
        "batch (and L)",
        "MLPs, PointNets, 1-D CNNs",
        f"{_TORCH_BN}.BatchNorm1d",
        f"{_TORCH_BN}.LazyBatchNorm1d",
    ),
    _batch(
        "BatchNorm2d",
        "batch, H, W",
        "CNNs on images",
        f"{_TORCH_BN}.BatchNorm2d",
        f"{_TORCH_BN}.LazyBatchNorm2d",
        "*.BatchNormAct2d",
    ),
    _batch(
        "BatchNorm3d",
        "batch, D, H, W",
        "CNNs on video and volumes",
        f"{_TORCH_BN}.BatchNorm3d",
        f"{_TORCH_BN}.LazyBatchNorm3d",
    ),
    _batch(
        "SyncBatchNorm",
        "batch of all GPUs",
        "CNNs trained on several GPUs with few samples on each",
        f"{_TORCH_BN}.SyncBatchNorm",
        "*.SyncBatchNorm",
        "*.SyncBatchNormAct",
        "*.NaiveSyncBatchNorm",
    ),
    _batch("BatchNorm", "batch (and space)", "CNNs"),
    NormKind(
        "fused conv-BatchNorm",
        Family.BATCH,
        "batch, H, W",
        _BATCH_TRAIN,
        _BATCH_EVAL,
        _RUNNING,
        _BATCH_SIZE,
        "γ and β per feature beside the convolution's weight",
        "quantization-aware training",
        same_in_both_modes=False,
    ),
    _frozen(
        "FrozenBatchNorm2d",
        "torchvision.ops.misc.FrozenBatchNorm2d",
        "detectron2.layers.batch_norm.FrozenBatchNorm2d",
        "*.FrozenBatchNorm2d",
        "*.FrozenBatchNormAct2d",
        "*.FrozenBatchNorm",
    ),
    _own_input(
        "LayerNorm",
        Family.LAYER,
        "features",
        "γ and β per feature (β optional)",
        "transformers, RNNs, NLP; any batch size",
        f"{_TORCH_NORM}.LayerNorm",
    ),
    _own_input(
        "LayerNorm2d",
        Family.LAYER,
        "channels",
        "γ and β per channel",
        "ConvNeXt-like CNNs (channels first)",
        "*.LayerNorm2d",
        "*.LayerNormAct2d",
    ),
    _own_input(
        "GroupNorm",
        Family.GROUP,
        "groups of C, H, W",
        "γ and β per channel",
        "CNNs with small batches: detection, segmentation, diffusion",
        f"{_TORCH_NORM}.GroupNorm",
        "*.GroupNormAct",
        "*.GroupNorm1",
    ),
    _own_input(
        "InstanceNorm1d",
        Family.INSTANCE,
        "L, each channel",
        "γ and β per channel where affine",
        "sequences of varying level: audio, sensors",
        f"{_TORCH_IN}.InstanceNorm1d",
        f"{_TORCH_IN}.LazyInstanceNorm1d",
    ),
    _own_input(
        "InstanceNorm2d",
        Family.INSTANCE,
        "H, W, each channel",
        "γ and β per channel where affine",
        _INSTANCE_SUITS,
        f"{_TORCH_IN}.InstanceNorm2d",
        f"{_TORCH_IN}.LazyInstanceNorm2d",
    ),
    _own_input(
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
        _RUNNING,
        "none in training; none in eval mode",
        "γ and β per channel where affine",
        "rarely what is wanted: leave track_running_stats off",
        same_in_both_modes=False,
    ),
    _own_input(
        "RMSNorm",
        Family.RMS,
        "features, no mean",
        "γ per feature, no β",
        "large language models",
        f"{_TORCH_NORM}.RMSNorm",
        "*.SimpleNorm",
        *_RMS_CALLED_LAYER_NORM,
    ),
    _own_input(
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
    _own_input(
        "LocalResponseNorm",
        Family.LOCAL_RESPONSE,
        "nearby channels",
        "none",
        "AlexNet and GoogLeNet of 2012 to 2014",
        f"{_TORCH_NORM}.LocalResponseNorm",
        f"{_TORCH_NORM}.CrossMapLRN2d",
    ),
    _own_input(
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
        _RUNNING,
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
