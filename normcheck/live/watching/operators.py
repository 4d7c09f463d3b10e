"""The operators that a forward ends in: which normalise, draw, activate or attend."""

from typing import Any

import torch

Op = Any  # torch._ops.OpOverload, which has no public name

TRAINING_AT = {
    "aten::native_batch_norm": 5,
    "aten::cudnn_batch_norm": 5,
    "aten::miopen_batch_norm": 5,
    "aten::_native_batch_norm_legit": 5,
    "aten::_batch_norm_with_update": -1,
    "aten::_native_batch_norm_legit_no_training": -2,
    "aten::_batch_norm_no_update": -2,
}
"""Batch norm operators and where their training flag is: -1 always on, -2 always off."""
_LAYER_NORMS = frozenset({"aten::native_layer_norm"})
_GROUP_NORM = "aten::native_group_norm"
_RANDOM = frozenset(
    f"aten::{name}"
    for name in (
        "bernoulli", "bernoulli_", "native_dropout", "_fused_dropout", "rand", "rand_like",
        "randn", "randn_like", "randint", "randint_like", "randperm", "normal", "normal_",
        "normal_functional", "uniform", "uniform_", "exponential_", "log_normal_", "cauchy_",
        "geometric_", "multinomial", "poisson", "random_",
    )
)  # fmt: skip
_ACTIVATIONS = frozenset(
    f"aten::{name}{in_place}"
    for name in (
        "relu", "leaky_relu", "silu", "gelu", "hardswish", "hardtanh", "elu", "mish", "softplus",
    )
    for in_place in ("", "_")
)  # fmt: skip
_POOLINGS = frozenset({"aten::max_pool2d_with_indices", "aten::max_pool2d", "aten::avg_pool2d"})
_PADDINGS = ("aten::reflection_pad", "aten::replication_pad", "aten::constant_pad_nd")
_RESIZES = ("aten::upsample_", "aten::_upsample_")
EXCHANGED = frozenset({"activation", "convolution", "padding", "pooling", "resize"})
"""Kinds of operators that another version of a model's code may have others for."""
_ATTENTION = "aten::_scaled_dot_product"


def kind_of(func: Op) -> str:
    """The kind of an operator, by its name: ``batch``, ``layer``, ``random``, … or ``other``."""
    name = func._schema.name  # noqa: SLF001
    if name in TRAINING_AT:
        return "batch"
    if name in _LAYER_NORMS:
        return "layer"
    if name == _GROUP_NORM:
        return "group"
    if name in _RANDOM:
        return "random"
    if name.startswith("aten::rrelu_with_noise"):
        return "noise"
    if name in _ACTIVATIONS:
        return "activation"
    if name == "aten::convolution":
        return "convolution"
    if name in _POOLINGS:
        return "pooling"
    if name.startswith(_PADDINGS):
        return "padding"
    if name.startswith(_RESIZES):
        return "resize"
    return "attention" if name.startswith(_ATTENTION) else "other"


def on_average(func: Op, args: tuple[Any, ...]) -> Any:
    """What a draw of a dropout gives on average; None for draws that are no dropout's.

    Dropout draws a mask of zeros and ones with the probability of keeping, and divides it by
    the same: filled with that probability, the mask becomes 1 everywhere.
    """
    name = func._schema.name  # noqa: SLF001
    if name == "aten::bernoulli_" and func._overloadname == "float":  # noqa: SLF001
        return args[0].fill_(args[1] if len(args) > 1 else 0.5)
    if name == "aten::native_dropout":
        return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
    return None


def drops(func: Op, args: tuple[Any, ...], kwargs: Any) -> bool:
    """Whether a fused attention drops anything."""
    for number, argument in enumerate(func._schema.arguments):  # noqa: SLF001
        if argument.name == "dropout_p":
            value = args[number] if number < len(args) else (kwargs or {}).get("dropout_p", 0.0)
            return bool(value)
    return False
