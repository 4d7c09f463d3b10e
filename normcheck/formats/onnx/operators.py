"""The operators of ONNX that matter here: what they do and what their inputs are.

Names, defaults and the versions in which an operator changed are those of ``Operators.md`` and
``Changelog.md`` of ONNX, and of ``ContribOperators.md`` of ONNX Runtime for its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from normcheck.formats.onnx.flattened_graph import Call
from normcheck.formats.onnx.known_values import KnownValues, input_of, number_of, rounded, whole_of
from normcheck.saved.graph import Op, Setting

Settings = dict[str, Setting]
_Read = Callable[[Call, KnownValues], Settings]

MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Operator:
    """What is known of an operator."""

    op: Op
    parts: tuple[str, ...] = ("input",)
    """What its inputs are, by position; empty for what is no part of it."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    read: _Read | None = None
    """Settings that depend on the attributes and inputs."""


def _batch_norm(call: Call, known: KnownValues) -> Settings:
    momentum = number_of(call, "momentum", 0.9)
    settings = _eps(call, known)
    # What is kept of the old value; torch's momentum is the share of the new one.
    settings["momentum"] = None if momentum is None else round(1.0 - momentum, 7)
    if call.version >= 14:
        settings["training"] = whole_of(call, "training_mode", 0) == 1
    elif call.version >= 7:
        settings["training"] = sum(map(bool, call.outputs)) > 1
    elif call.version:
        settings["training"] = whole_of(call, "is_test", 0) == 0
    return settings


def _dropout(call: Call, known: KnownValues) -> Settings:
    ratio, training = input_of(call, 1), input_of(call, 2)
    settings: Settings = {"p": rounded(number_of(call, "ratio", 0.5))}
    if call.version >= 12 or call.domain == MICROSOFT:
        settings["p"] = rounded(known.scalar(ratio)) if ratio else 0.5
        settings |= _mode_in(training, known)
    elif call.version >= 7:
        settings["training"] = False
    elif call.version:
        settings["training"] = whole_of(call, "is_test", 0) == 0
    return settings


def _bias_dropout(call: Call, known: KnownValues) -> Settings:
    training = input_of(call, 4)
    settings: Settings = {
        "p": rounded(known.scalar(input_of(call, 3))) if input_of(call, 3) else 0.5
    }
    return settings | _mode_in(training, known)


def _mode_in(value: str, known: KnownValues) -> Settings:
    """The mode that an input of an operator gives: none is eval mode."""
    number = known.scalar(value) if value else 0.0
    if number is not None:
        return {"training": number != 0}
    return {"mode_input": value} if value in known.inputs else {}


def _eps(call: Call, _known: KnownValues) -> Settings:
    return {"eps": rounded(number_of(call, "epsilon", 1e-5))}


def _layer_norm(call: Call, known: KnownValues) -> Settings:
    axis = whole_of(call, "axis", -1)
    settings = _eps(call, known)
    rank = len(known.shape(input_of(call, 0)) or ())
    if axis >= 0 and rank > axis:
        axis -= rank
    if axis < 0:
        settings["dim"] = tuple(range(axis, 0))
    weight = known.tensors.get(input_of(call, 1))
    if weight is not None:
        settings["normalized_shape"] = weight.shape
    return settings


def _last_axis(call: Call, known: KnownValues) -> Settings:
    return {**_eps(call, known), "dim": (-1,)}


def _group_norm(call: Call, known: KnownValues) -> Settings:
    groups = whole_of(call, "groups", 0) or whole_of(call, "num_groups", 0)
    return {**_eps(call, known), "num_groups": groups or None}


def _mean_variance(call: Call, _known: KnownValues) -> Settings:
    axes = call.attributes.get("axes", (0, 2, 3))
    settings: Settings = {"eps": 1e-9, "dim": axes}
    if isinstance(axes, tuple) and 0 in axes:
        settings["training"] = True
    return settings


def _lp_norm(call: Call, _known: KnownValues) -> Settings:
    return {"p": whole_of(call, "p", 2), "dim": (whole_of(call, "axis", -1),)}


def _local_response_norm(call: Call, _known: KnownValues) -> Settings:
    return {
        "size": call.attributes.get("size"),
        "alpha": number_of(call, "alpha", 1e-4),
        "beta": number_of(call, "beta", 0.75),
        "k": number_of(call, "bias", 1.0),
    }


def _convolution(call: Call, _known: KnownValues) -> Settings:
    settings: Settings = {"groups": whole_of(call, "group", 1)}
    for theirs, ours in (("strides", "stride"), ("pads", "padding"), ("dilations", "dilation")):
        if theirs in call.attributes:
            settings[ours] = call.attributes[theirs]
    return settings


def _pool(call: Call, _known: KnownValues) -> Settings:
    named = {"kernel_shape": "kernel_size", "strides": "stride", "pads": "padding"}
    return {ours: call.attributes[k] for k, ours in named.items() if k in call.attributes}


def _slope(call: Call, _known: KnownValues) -> Settings:
    return {"negative_slope": rounded(number_of(call, "alpha", 0.01))}


def _alpha(call: Call, _known: KnownValues) -> Settings:
    return {"alpha": rounded(number_of(call, "alpha", 1.0))}


def _hard_sigmoid(call: Call, _known: KnownValues) -> Settings:
    return {
        "alpha": rounded(number_of(call, "alpha", 0.2)),
        "beta": rounded(number_of(call, "beta", 0.5)),
    }


def _clip(call: Call, known: KnownValues) -> Settings:
    settings: Settings = {"activation": "hardtanh"}
    for position, part in ((1, "min"), (2, "max")):
        value = input_of(call, position)
        bound = known.scalar(value) if value else number_of(call, part)
        if bound is not None:
            settings[part] = rounded(bound)
    if (settings.get("min"), settings.get("max")) == (0.0, 6.0):
        settings["activation"] = "ReLU6"
    return settings


def _gelu(call: Call, _known: KnownValues) -> Settings:
    return {"approximate": str(call.attributes.get("approximate", "none"))}


def _quick_gelu(call: Call, _known: KnownValues) -> Settings:
    """``x · sigmoid(alpha · x)``: SiLU where alpha is 1."""
    return {"activation": "SiLU" if number_of(call, "alpha", 1.702) == 1 else "quick GELU"}


def _second_number(part: str) -> _Read:
    def read(call: Call, known: KnownValues) -> Settings:
        number = known.scalar(input_of(call, 1))
        return {} if number is None else {part: number}

    return read


def _mean(call: Call, known: KnownValues) -> Settings:
    settings: Settings = {"keepdim": whole_of(call, "keepdims", 1) == 1}
    axes = call.attributes.get("axes")
    if axes is None and input_of(call, 1):
        axes = known.integers(input_of(call, 1))
        if axes is None:
            return settings
    if isinstance(axes, tuple):
        settings["dim"] = axes
    return settings


def _concatenate(call: Call, _known: KnownValues) -> Settings:
    return {"dim": whole_of(call, "axis", 1)}


def _transpose(call: Call, _known: KnownValues) -> Settings:
    return {"dims": call.attributes["perm"]} if "perm" in call.attributes else {}


_AFFINE = ("input", "weight", "bias")
_BINARY = ("input", "other")


def _activation(name: str) -> Operator:
    return Operator(Op.ACTIVATION, settings={"activation": name})


OPERATORS: Mapping[str, Operator] = {
    "BatchNormalization": Operator(
        Op.BATCH_NORM, (*_AFFINE, "running_mean", "running_var"), read=_batch_norm
    ),
    "InstanceNormalization": Operator(
        Op.INSTANCE_NORM, _AFFINE, {"uses_input_statistics": True}, _eps
    ),
    "LayerNormalization": Operator(Op.LAYER_NORM, _AFFINE, read=_layer_norm),
    "GroupNormalization": Operator(Op.GROUP_NORM, _AFFINE, read=_group_norm),
    "RMSNormalization": Operator(Op.RMS_NORM, ("input", "weight"), read=_layer_norm),
    # Of ONNX Runtime, but written without its domain.
    "SimplifiedLayerNormalization": Operator(Op.RMS_NORM, ("input", "weight"), read=_layer_norm),
    "MeanVarianceNormalization": Operator(Op.BATCH_NORM, read=_mean_variance),
    "LpNormalization": Operator(Op.LP_NORM, read=_lp_norm),
    "LRN": Operator(Op.LOCAL_RESPONSE_NORM, read=_local_response_norm),
    "Dropout": Operator(Op.DROPOUT, read=_dropout),
    "Conv": Operator(Op.CONVOLUTION, _AFFINE, read=_convolution),
    "ConvTranspose": Operator(Op.CONVOLUTION, _AFFINE, {"transposed": True}, _convolution),
    "MatMul": Operator(Op.MATRIX_PRODUCT, ("input", "transposed_weight")),
    "Attention": Operator(Op.ATTENTION, ("query", "key", "value"), {"p": 0.0}),
    "LSTM": Operator(Op.RECURRENT),
    "GRU": Operator(Op.RECURRENT),
    "RNN": Operator(Op.RECURRENT),
    "PRelu": Operator(Op.PRELU, ("input", "weight")),
    "Relu": _activation("ReLU"),
    "Gelu": Operator(Op.ACTIVATION, settings={"activation": "GELU"}, read=_gelu),
    "HardSwish": _activation("hardswish"),
    "Mish": _activation("Mish"),
    "Swish": _activation("SiLU"),
    "Tanh": _activation("tanh"),
    "Sigmoid": _activation("sigmoid"),
    "LeakyRelu": Operator(Op.ACTIVATION, settings={"activation": "leaky ReLU"}, read=_slope),
    "Elu": Operator(Op.ACTIVATION, settings={"activation": "ELU"}, read=_alpha),
    "HardSigmoid": Operator(Op.OTHER, read=_hard_sigmoid),
    "Clip": Operator(Op.ACTIVATION, read=_clip),
    "Add": Operator(Op.ADD, _BINARY, read=_second_number("other")),
    "Sub": Operator(Op.SUBTRACT, _BINARY, read=_second_number("other")),
    "Mul": Operator(Op.MULTIPLY, _BINARY, read=_second_number("other")),
    "Div": Operator(Op.DIVIDE, _BINARY, read=_second_number("other")),
    "Pow": Operator(Op.POWER, read=_second_number("exponent")),
    "Sqrt": Operator(Op.SQUARE_ROOT),
    "Reciprocal": Operator(Op.RECIPROCAL),
    "ReduceMean": Operator(Op.MEAN, read=_mean),
    "GlobalAveragePool": Operator(Op.MEAN, settings={"output_size": 1}),
    "Concat": Operator(Op.CONCATENATE, (), read=_concatenate),
    "MaxPool": Operator(Op.MAX_POOL, read=_pool),
    "AveragePool": Operator(Op.AVERAGE_POOL, read=_pool),
    "Transpose": Operator(Op.PERMUTE, read=_transpose),
    **{name: Operator(Op.SAME) for name in ("Identity", "Cast", "CastLike")},
    **{
        name: Operator(Op.VIEW)
        for name in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile")
    },
    **{
        name: Operator(Op.RANDOM)
        for name in (
            "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
            "Multinomial", "Bernoulli",
        )
    },
}  # fmt: skip

_OF_MICROSOFT: Mapping[str, Operator] = {
    "GroupNorm": Operator(Op.GROUP_NORM, _AFFINE, read=_group_norm),
    "SkipLayerNormalization": Operator(
        Op.LAYER_NORM, ("input", "other", "weight", "bias"), read=_last_axis
    ),
    "SkipSimplifiedLayerNormalization": Operator(
        Op.RMS_NORM, ("input", "other", "weight"), read=_last_axis
    ),
    "EmbedLayerNormalization": Operator(
        Op.LAYER_NORM, ("", "", "", "", "", "weight", "bias"), read=_last_axis
    ),
    "Gelu": OPERATORS["Gelu"],
    "FastGelu": Operator(Op.ACTIVATION, settings={"activation": "GELU", "approximate": "tanh"}),
    "FusedConv": OPERATORS["Conv"],
    "QuickGelu": Operator(Op.ACTIVATION, read=_quick_gelu),
    "BitmaskDropout": Operator(Op.DROPOUT, read=_dropout),
    "BiasDropout": Operator(Op.DROPOUT, read=_bias_dropout),
    "LayerNormalization": OPERATORS["LayerNormalization"],
    "SimplifiedLayerNormalization": OPERATORS["SimplifiedLayerNormalization"],
    "RMSNormalization": OPERATORS["RMSNormalization"],
}


def operator_of(call: Call) -> Operator | None:
    """What is known of a call's operator; None for any other."""
    if call.domain == MICROSOFT:
        return _OF_MICROSOFT.get(call.op_type)
    return None if call.domain else OPERATORS.get(call.op_type)
