"""From the calls of an ONNX model to the nodes of a graph."""

from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from normcheck.formats.onnx.flattened_graph import Call, Flat
from normcheck.formats.onnx.fused_operators import with_activation, with_sum
from normcheck.formats.onnx.known_values import KnownValues, number_of, whole_of
from normcheck.formats.onnx.operators import MICROSOFT, operator_of
from normcheck.formats.onnx.source_modules import Provenance, provenance
from normcheck.formats.onnx.source_names import unnamed
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.graph import Node, Op

_AS_GIVEN = frozenset(
    {"Identity", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
     "DequantizeLinear", "Dropout"}
)  # fmt: skip
_STATISTICS = ("running_mean", "running_var")
_GEMM = ("Gemm", "FusedGemm")


@lazy_dataclass(frozen=False, eq=False)
class Converted:
    """The nodes of a model, and what became of its tensors on the way."""

    nodes: list[Node] = field(default_factory=list)
    folded: list[tuple[str, bool | None]] = field(default_factory=list)


def convert(flat: Flat, known: KnownValues) -> Converted:
    """The nodes of all calls.

    Args:
        flat: The calls.
        known: What of their inputs is known.
    """
    converted = Converted()
    # What is computed from inputs; an input itself, or another shape of one, is given as it is.
    on_input, computed = set(flat.inputs), set[str]()
    made_by: dict[str, Call] = {}
    for call in flat.calls:
        if any(value in on_input for value in call.inputs):
            on_input.update(filter(None, call.outputs))
            if call.op_type not in _AS_GIVEN or any(v in computed for v in call.inputs):
                computed.update(filter(None, call.outputs))
        for value in call.outputs:
            made_by[value] = call
        if call.op_type == "Identity" and call.inputs and call.inputs[0] in known.tensors:
            continue  # the stored tensor itself, under another name
        parts = _parts(call, known, made_by)
        source = provenance(call, parts)
        if source.folded is not None:
            converted.folded.append(source.folded)
        converted.nodes.extend(_nodes(call, parts, source, known, computed))
    return converted


def _parts(call: Call, known: KnownValues, made_by: Mapping[str, Call]) -> dict[str, str]:
    """The inputs of a call by their part, the weights as they are stored."""
    if call.op_type in _GEMM and call.domain in ("", MICROSOFT):
        weight = "weight" if whole_of(call, "transB", 0) else "transposed_weight"
        names: tuple[str, ...] = ("input", weight, "bias")
    else:
        operator = operator_of(call)
        names = operator.parts if operator else ()
    given = {part: value for part, value in zip(names, call.inputs, strict=False) if part and value}
    parts = {p: v if p == "input" else known.origin(v) for p, v in given.items()}
    product = parts.get("transposed_weight", "")
    turned = made_by.get(product)
    if call.op_type == "MatMul" and turned is not None and turned.op_type == "Transpose":
        stored = known.origin(turned.inputs[0])
        if stored in known.tensors and known.tensors[stored].ndim == 2:
            del parts["transposed_weight"]
            parts["weight"] = stored
    return parts


def _nodes(
    call: Call, parts: dict[str, str], source: Provenance, known: KnownValues, computed: set[str]
) -> Iterator[Node]:
    operator = operator_of(call)
    target = f"{call.domain}.{call.op_type}" if call.domain else call.op_type
    node = Node(
        Op.OTHER,
        target,
        call.name,
        tuple(filter(None, call.inputs)),
        tuple(filter(None, call.outputs)),
        source.module,
        source.class_path,
    )
    if call.op_type in _GEMM and call.domain in ("", MICROSOFT):
        scaled = number_of(call, "alpha", 1.0) != 1 or ("bias" in parts and _beta(call) != 1)
        if not scaled and not whole_of(call, "transA", 0):
            node = replace(node, op=Op.LINEAR, operands=parts)
        yield from with_activation(call, node)
        return
    if operator is None:
        yield node
        return
    settings = dict(operator.settings)
    if operator.read is not None:
        settings.update(operator.read(call, known))
    node = replace(node, op=operator.op, operands=parts, settings=settings)
    if node.op is Op.MATRIX_PRODUCT and "weight" in parts:
        node = replace(node, op=Op.LINEAR)
    if node.op is Op.BATCH_NORM:
        node = _batch_norm(node, source, computed)
    if node.op in (Op.BATCH_NORM, Op.INSTANCE_NORM):
        node = _without_made_up_affine(node, source, known)
    if node.op is Op.PRELU and parts.get("weight") not in known.tensors:
        # Slopes that are drawn: RReLU in training mode.
        node = replace(node, op=Op.OTHER)
    if call.domain == MICROSOFT and node.op is Op.CONVOLUTION:
        yield from with_activation(call, node)
        return
    if call.domain == MICROSOFT and "other" in parts:
        yield from with_sum(call, node)
        return
    yield node


def _beta(call: Call) -> float | None:
    return number_of(call, "beta", 1.0)


def _by_axes(axes: object) -> Op:
    """What a normalization by mean and variance over these axes is called."""
    if not isinstance(axes, tuple) or 0 in axes:
        return Op.BATCH_NORM
    return Op.LAYER_NORM if 1 in axes else Op.INSTANCE_NORM


def _batch_norm(node: Node, source: Provenance, computed: set[str]) -> Node:
    operands, settings = dict(node.operands), dict(node.settings)
    if node.target == "MeanVarianceNormalization":
        return replace(node, op=_by_axes(settings.get("dim")))
    if any(operands.get(part) in computed for part in _STATISTICS):
        # Its statistics are computed from the batch before it, whatever its attribute says.
        settings["training"] = True
        operands = {p: v for p, v in operands.items() if p not in _STATISTICS}
    if "instance_norm" in source.operator and not settings.get("training"):
        settings = {"eps": settings["eps"], "uses_input_statistics": False}
        return replace(node, op=Op.INSTANCE_NORM, operands=operands, settings=settings)
    return replace(node, operands=operands, settings=settings)


def _without_made_up_affine(node: Node, source: Provenance, known: KnownValues) -> Node:
    """ONNX asks for γ and β; where the source has none, exporters write ones and zeros."""
    operands = dict(node.operands)
    norm = "batch_norm" in source.operator or "instance_norm" in source.operator
    for position, (part, neutral) in enumerate((("weight", 1.0), ("bias", 0.0)), start=1):
        value = operands.get(part)
        if value is None:
            continue
        given = source.arguments[position : position + 1]
        if norm and given:
            made_up = given == ("None",)
        else:
            made_up = unnamed(value) and known.constant(value, neutral)
        if made_up:
            del operands[part]
    return replace(node, operands=operands)
