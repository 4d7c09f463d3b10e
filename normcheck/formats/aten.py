"""The operators of ATen that matter here, by name: what they do and what their arguments are.

TorchScript writes arguments by position, ``torch.export`` by name. Names and defaults are those
of ``native_functions.yaml``.
"""

from collections.abc import Mapping, Sequence

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.graph import Node, Op, Setting


@lazy_dataclass()
class Value:
    """A tensor that is known by name only."""

    name: str


class Unknown:
    """What cannot be told without running."""

    __slots__ = ()


UNKNOWN = Unknown()

Argument = object
"""A ``Value``, a plain value, a tuple of arguments, or ``UNKNOWN``."""


@lazy_dataclass()
class _Signature:
    op: Op
    arguments: tuple[str, ...]
    defaults: Mapping[str, Setting]


def _signature(op: Op, arguments: str, **defaults: Setting) -> _Signature:
    return _Signature(op, tuple(arguments.split()), defaults)


_BATCH_NORM = "input weight bias running_mean running_var training momentum eps"
_NO_STATISTICS = "input weight bias training momentum eps"
_POOL = "input kernel_size stride padding"
_RECURRENT = "input hx params has_biases num_layers p training bidirectional batch_first"
_PACKED_RECURRENT = "input batch_sizes hx params has_biases num_layers p training bidirectional"
_ATTENTION = "query key value attn_mask p"

_SIGNATURES: Mapping[str, _Signature] = {
    "batch_norm": _signature(Op.BATCH_NORM, _BATCH_NORM),
    "native_batch_norm": _signature(Op.BATCH_NORM, _BATCH_NORM),
    "cudnn_batch_norm": _signature(Op.BATCH_NORM, _BATCH_NORM),
    "miopen_batch_norm": _signature(Op.BATCH_NORM, _BATCH_NORM),
    "_batch_norm_impl_index": _signature(Op.BATCH_NORM, _BATCH_NORM),
    "_native_batch_norm_legit": _signature(Op.BATCH_NORM, _BATCH_NORM),
    "_native_batch_norm_legit_functional": _signature(Op.BATCH_NORM, _BATCH_NORM),
    "_native_batch_norm_legit.no_stats": _signature(Op.BATCH_NORM, _NO_STATISTICS),
    "_native_batch_norm_legit_no_training": _signature(
        Op.BATCH_NORM,
        "input weight bias running_mean running_var momentum eps",
        training=False,
    ),
    "_batch_norm_with_update": _signature(
        Op.BATCH_NORM,
        "input weight bias running_mean running_var momentum eps",
        training=True,
    ),
    "_batch_norm_with_update_functional": _signature(
        Op.BATCH_NORM,
        "input weight bias running_mean running_var momentum eps",
        training=True,
    ),
    "_batch_norm_no_update": _signature(
        Op.BATCH_NORM,
        "input weight bias running_mean running_var momentum eps",
        training=False,
    ),
    "instance_norm": _signature(
        Op.INSTANCE_NORM,
        "input weight bias running_mean running_var use_input_stats momentum eps",
    ),
    "layer_norm": _signature(Op.LAYER_NORM, "input normalized_shape weight bias eps", eps=1e-5),
    "native_layer_norm": _signature(Op.LAYER_NORM, "input normalized_shape weight bias eps"),
    "group_norm": _signature(Op.GROUP_NORM, "input num_groups weight bias eps", eps=1e-5),
    "native_group_norm": _signature(Op.GROUP_NORM, "input weight bias N C HxW num_groups eps"),
    "rms_norm": _signature(Op.RMS_NORM, "input normalized_shape weight eps"),
    "_fused_rms_norm": _signature(Op.RMS_NORM, "input normalized_shape weight eps"),
    "dropout": _signature(Op.DROPOUT, "input p training"),
    "native_dropout": _signature(Op.DROPOUT, "input p training"),
    "feature_dropout": _signature(Op.DROPOUT, "input p training"),
    "alpha_dropout": _signature(Op.DROPOUT, "input p training"),
    "feature_alpha_dropout": _signature(Op.DROPOUT, "input p training"),
    "rrelu": _signature(Op.DROPOUT, "input lower upper training", lower=0.125, upper=1 / 3,
                        training=False),
    "bernoulli": _signature(Op.RANDOM_MASK, "input p"),
    "rand": _signature(Op.RANDOM, ""),
    "rand_like": _signature(Op.RANDOM, "input"),
    "randn": _signature(Op.RANDOM, ""),
    "randn_like": _signature(Op.RANDOM, "input"),
    "normal": _signature(Op.RANDOM, "input"),
    "uniform": _signature(Op.RANDOM, "input"),
    "multinomial": _signature(Op.RANDOM, "input"),
    "scaled_dot_product_attention": _signature(Op.ATTENTION, _ATTENTION, p=0.0),
    "_scaled_dot_product_flash_attention": _signature(Op.ATTENTION, "query key value p", p=0.0),
    "_scaled_dot_product_flash_attention_for_cpu": _signature(
        Op.ATTENTION, "query key value p", p=0.0
    ),
    "_scaled_dot_product_efficient_attention": _signature(
        Op.ATTENTION, "query key value attn_bias compute_log_sumexp p", p=0.0
    ),
    "lstm": _signature(Op.RECURRENT, _RECURRENT),
    "gru": _signature(Op.RECURRENT, _RECURRENT),
    "rnn_tanh": _signature(Op.RECURRENT, _RECURRENT),
    "rnn_relu": _signature(Op.RECURRENT, _RECURRENT),
    "lstm.data": _signature(Op.RECURRENT, _PACKED_RECURRENT),
    "gru.data": _signature(Op.RECURRENT, _PACKED_RECURRENT),
    "rnn_tanh.data": _signature(Op.RECURRENT, _PACKED_RECURRENT),
    "rnn_relu.data": _signature(Op.RECURRENT, _PACKED_RECURRENT),
    **{
        f"conv{n}d": _signature(
            Op.CONVOLUTION, "input weight bias stride padding dilation groups", groups=1
        )
        for n in (1, 2, 3)
    },
    **{
        f"conv_transpose{n}d": _signature(
            Op.CONVOLUTION,
            "input weight bias stride padding output_padding groups dilation",
            groups=1,
            transposed=True,
        )
        for n in (1, 2, 3)
    },
    "convolution": _signature(
        Op.CONVOLUTION,
        "input weight bias stride padding dilation transposed output_padding groups",
    ),
    "_convolution": _signature(
        Op.CONVOLUTION,
        "input weight bias stride padding dilation transposed output_padding groups",
    ),
    "linear": _signature(Op.LINEAR, "input weight bias"),
    "addmm": _signature(Op.LINEAR, "bias input transposed_weight"),
    "mm": _signature(Op.MATRIX_PRODUCT, "input transposed_weight"),
    "matmul": _signature(Op.MATRIX_PRODUCT, "input transposed_weight"),
    "prelu": _signature(Op.PRELU, "input weight"),
    "_prelu_kernel": _signature(Op.PRELU, "input weight"),
    "add": _signature(Op.ADD, "input other"),
    "sub": _signature(Op.SUBTRACT, "input other"),
    "mul": _signature(Op.MULTIPLY, "input other"),
    "div": _signature(Op.DIVIDE, "input other"),
    "pow": _signature(Op.POWER, "input exponent"),
    "square": _signature(Op.POWER, "input", exponent=2),
    "sqrt": _signature(Op.SQUARE_ROOT, "input"),
    "rsqrt": _signature(Op.INVERSE_SQUARE_ROOT, "input"),
    "reciprocal": _signature(Op.RECIPROCAL, "input"),
    "mean": _signature(Op.MEAN, "input dim keepdim"),
    "cat": _signature(Op.CONCATENATE, "tensors dim", dim=0),
    **{f"max_pool{n}d": _signature(Op.MAX_POOL, _POOL) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _signature(Op.MAX_POOL, _POOL) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _signature(Op.AVERAGE_POOL, _POOL) for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _signature(Op.MEAN, "input output_size") for n in (1, 2, 3)},
    **{
        name: _signature(Op.ACTIVATION, "input", activation=activation)
        for name, activation in {
            "relu": "ReLU", "silu": "SiLU", "hardswish": "hardswish",
            "relu6": "ReLU6", "mish": "Mish", "tanh": "tanh", "sigmoid": "sigmoid",
        }.items()
    },
    "gelu": _signature(Op.ACTIVATION, "input approximate", approximate="none", activation="GELU"),
    "leaky_relu": _signature(Op.ACTIVATION, "input negative_slope", negative_slope=0.01,
                             activation="leaky ReLU"),
    "elu": _signature(Op.ACTIVATION, "input alpha", alpha=1.0, activation="ELU"),
    "hardtanh": _signature(Op.ACTIVATION, "input min max", min=-1.0, max=1.0,
                           activation="hardtanh"),
    "clamp": _signature(Op.ACTIVATION, "input min max", activation="hardtanh"),
    "clamp_min": _signature(Op.ACTIVATION, "input min", activation="hardtanh"),
    **{
        name: _signature(Op.SAME, "input")
        for name in (
            "contiguous", "detach", "clone", "alias", "to", "_to_copy", "type_as",
            "lift_fresh_copy", "float", "half", "double", "cpu", "cuda",
        )
    },
    **{
        name: _signature(Op.VIEW, "input shape")
        for name in (
            "view", "reshape", "flatten", "unsqueeze", "squeeze", "_unsafe_view", "expand",
            "repeat", "view_as", "expand_as", "unflatten",
        )
    },
    **{
        name: _signature(Op.PERMUTE, "input dims")
        for name in ("permute", "transpose", "t", "numpy_T", "swapaxes")
    },
}  # fmt: skip

_TENSOR_PARTS = frozenset(
    {"input", "weight", "bias", "running_mean", "running_var", "transposed_weight", "other"}
)


_MOST_INPUTS = 16
_OF_MANY = frozenset({Op.CONCATENATE, Op.RECURRENT})
"""Operators that take lists of tensors."""


def base_name(target: str) -> tuple[str, str]:
    """Name and overload of an operator, without what formats put around it.

    >>> base_name("torch.ops.aten.add_.Tensor")
    ('add_', 'Tensor')
    >>> base_name("aten::batch_norm")
    ('batch_norm', '')
    """
    name = target.removeprefix("torch.ops.").removeprefix("torch.").removeprefix("ops.")
    name = name.replace("::", ".")
    name = name.removeprefix("aten.")
    first, _, overload = name.partition(".")
    return first, overload


def signature_of(target: str) -> _Signature | None:
    """What is known of an operator; in-place variants are the operator itself."""
    name, overload = base_name(target)
    plain = name.rstrip("_") if not name.startswith("__") else name
    return _SIGNATURES.get(f"{plain}.{overload}") or _SIGNATURES.get(plain)


def in_place(target: str) -> bool:
    """Whether an operator writes to its first argument."""
    name = base_name(target)[0]
    return name.endswith("_") and not name.endswith("__")


def node(
    target: str,
    name: str,
    positional: Sequence[Argument],
    named: Mapping[str, Argument],
    outputs: tuple[str, ...],
    module: str = "",
    class_path: str | None = None,
) -> Node:
    """The node of a call.

    Args:
        target: The operator as the file names it.
        name: The node's own name.
        positional: Arguments by position.
        named: Arguments by name; older files have some of both.
        outputs: Names of the values that it makes.
        module: Path of the module that makes the call.
        class_path: Of that module.
    """
    known = signature_of(target)
    inputs = tuple(v.name for a in (*positional, *named.values()) for v in values_in(a))
    # Of a shape that no operator of its kind has: whatever it is, it is not that.
    odd = not outputs or (len(inputs) > _MOST_INPUTS and known and known.op not in _OF_MANY)
    if known is None or odd:
        return Node(Op.OTHER, target, name, inputs, outputs, module, class_path)
    arguments: dict[str, Argument] = dict(zip(known.arguments, positional, strict=False))
    called = {**_ALSO_CALLED, **_CALLED_IN.get(base_name(target)[0].rstrip("_"), {})}
    for key, argument in named.items():
        arguments[called.get(key, key)] = argument
    operands = {
        part: value.name
        for part, value in arguments.items()
        if part in _TENSOR_PARTS and isinstance(value, Value)
    }
    settings: dict[str, Setting] = dict(known.defaults)
    for part, value in arguments.items():
        if isinstance(value, Value | Unknown):
            if part not in _TENSOR_PARTS:
                settings.pop(part, None)
        elif not any(isinstance(v, Value | Unknown) for v in _flat(value)):
            settings[part] = value  # type: ignore[assignment]  # plain, or a tuple of plain values
    if known.op is Op.INSTANCE_NORM:
        # By itself no mode: with the input's statistics is how it is meant in both.
        settings["uses_input_statistics"] = settings.pop("use_input_stats", None)
    op = known.op
    if op is Op.RANDOM_MASK and not isinstance(settings.get("p"), float):
        op = Op.RANDOM  # the input is the probabilities: a draw that the model is about
    return Node(op, target, name, inputs, outputs, module, class_path, operands, settings)


_ALSO_CALLED = {
    "self": "input", "tensor": "input", "train": "training", "dropout": "p", "dropout_p": "p",
    "group": "num_groups", "min_val": "min", "max_val": "max",
}  # fmt: skip
"""Names of arguments in ATen's schema, where the part has another name here."""
_CALLED_IN: Mapping[str, Mapping[str, str]] = {
    "addmm": {"self": "bias", "mat1": "input", "mat2": "transposed_weight"},
    "mm": {"mat2": "transposed_weight"},
    "matmul": {"other": "transposed_weight"},
}


def values_in(argument: Argument) -> tuple[Value, ...]:
    """The tensors in an argument, which may be a list of lists of them."""
    if isinstance(argument, Value):
        return (argument,)
    if isinstance(argument, tuple | list):
        return tuple(v for part in argument for v in values_in(part))
    return ()


def _flat(argument: Argument) -> tuple[Argument, ...]:
    if isinstance(argument, tuple | list):
        return tuple(v for part in argument for v in _flat(part))
    return (argument,)
