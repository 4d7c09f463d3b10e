"""What is known of a kind of normalization, and the kinds that come in families."""

from enum import StrEnum

from normcheck.lazy_dataclass import lazy_dataclass


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


@lazy_dataclass()
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


OWN_INPUT = "its own input"
RUNNING = "running stats"
SAME = "the current input's, as in training; the outputs of both modes are equal"
BATCH_TRAIN = "the mini-batch's; updates running_mean and running_var with momentum"
BATCH_EVAL = "running_mean and running_var, accumulated in training"
BATCH_SIZE = "noisy in training below 8 samples a batch; none in eval mode"
GAMMA_BETA = "γ (weight) and β (bias) per feature"
NO_BATCH = "none: each sample by itself, a batch of one works"


def batch_kind(name: str, over: str, suits: str, *classes: str) -> NormKind:
    """A kind with running statistics of batches."""
    return NormKind(
        name,
        Family.BATCH,
        over,
        BATCH_TRAIN,
        BATCH_EVAL,
        RUNNING,
        BATCH_SIZE,
        GAMMA_BETA,
        suits,
        same_in_both_modes=False,
        classes=classes,
    )


def frozen_kind(name: str, *classes: str) -> NormKind:
    """A kind with stored statistics that nothing updates."""
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


def own_input_kind(
    name: str, family: Family, over: str, parameters: str, suits: str, *classes: str
) -> NormKind:
    """A kind that computes its statistics from each input and stores none."""
    return NormKind(
        name,
        family,
        over,
        "the current input's; nothing is stored",
        SAME,
        OWN_INPUT,
        NO_BATCH,
        parameters,
        suits,
        same_in_both_modes=True,
        classes=classes,
    )
