"""Operators of ONNX Runtime that do the work of several: taken apart into those."""

from collections.abc import Iterator
from dataclasses import replace

from normcheck.formats.onnx.flattened_graph import Call
from normcheck.formats.onnx.known_values import input_of, rounded
from normcheck.formats.onnx.operators import OPERATORS, Operator, Settings
from normcheck.saved.graph import Node, Op


def with_activation(call: Call, node: Node) -> Iterator[Node]:
    """Weights with what ONNX Runtime fused behind them, a residual sum and an activation, apart."""
    parts: list[Node] = [node]

    def behind(op: Op, what: str, operands: dict[str, str]) -> None:
        value = f"{call.outputs[0]}/{what}"
        parts[-1] = replace(parts[-1], outputs=(value,))
        operands = {"input": value, **operands}
        inputs = tuple(operands.values())
        name = f"{call.name}/{what}"
        parts.append(Node(op, node.target, name, inputs, call.outputs, node.module, None, operands))

    added = input_of(call, 3) if call.op_type == "FusedConv" else ""
    if added:
        parts[0] = replace(node, inputs=tuple(v for v in node.inputs if v != added))
        behind(Op.ADD, "sum", {"other": added})
    if call.attributes.get("activation"):
        found = _fused_activation(call)
        behind(found.op if found else Op.OTHER, "activation", {})
        parts[-1] = replace(parts[-1], settings=dict(found.settings) if found else {})
    yield from parts


def with_sum(call: Call, node: Node) -> Iterator[Node]:
    """A residual sum and the norm of it in one operator, as two."""
    added = input_of(call, 0), input_of(call, 1)
    total = call.outputs[3] if len(call.outputs) > 3 and call.outputs[3] else ""
    total = total or f"{call.outputs[0]}/sum"
    yield Node(
        Op.ADD, node.target, f"{call.name}/sum", added, (total,), node.module, None,
        {"input": added[0], "other": added[1]},
    )  # fmt: skip
    operands = {p: v for p, v in node.operands.items() if p != "other"} | {"input": total}
    rest = tuple(v for v in node.inputs if v not in added)
    outputs = tuple(v for v in node.outputs if v != total)
    yield replace(node, inputs=(total, *rest), outputs=outputs, operands=operands)


def _fused_activation(call: Call) -> Operator | None:
    """The activation that one of ONNX Runtime's operators has taken in; None where it has none."""
    name = call.attributes.get("activation")
    operator = OPERATORS.get(name) if isinstance(name, str) else None
    if operator is None or operator.op is not Op.ACTIVATION:
        return None
    given = call.attributes.get("activation_params", call.attributes.get("activation_alpha"))
    numbers = given if isinstance(given, tuple) else () if given is None else (given,)
    names = {"LeakyRelu": ("negative_slope",), "Elu": ("alpha",), "Clip": ("min", "max")}
    settings: Settings = dict(operator.settings)
    for part, number in zip(names.get(str(name), ()), numbers, strict=False):
        if isinstance(number, int | float):
            settings[part] = rounded(number)
    if name == "Clip":
        bounds = settings.get("min"), settings.get("max")
        settings["activation"] = "ReLU6" if bounds == (0.0, 6.0) else "hardtanh"
    return Operator(Op.ACTIVATION, settings=settings)
