"""What exporters write as several operators of ONNX, put together again.

Group norm had no operator before version 18, SiLU none before 24, and a Bernoulli mask is a
comparison of uniform numbers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from normcheck.formats.onnx.known_values import KnownValues
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.graph import Node, Op, Setting

_NEUTRAL: Mapping[str, float | None] = {
    "weight": 1.0, "bias": 0.0, "running_mean": None, "running_var": None,
}  # fmt: skip
"""Parts of a batch norm, with what stands for none."""
_STEPS = 4
"""Views in a row between a stored tensor and its repetition."""
_ROUNDED = 1e-3
"""By how much six times a sixth, as exporters write it, may differ from 1."""


@lazy_dataclass(frozen=False, eq=False)
class _Found:
    """A pattern: the node that stands for it, and those that it takes the place of."""

    node: Node
    instead_of: tuple[Node, ...]


def put_together(nodes: list[Node], outputs: Iterable[str], known: KnownValues) -> list[Node]:
    """The nodes, with those of a known pattern replaced by one at the place of the last.

    Args:
        nodes: In an order in which they can run.
        outputs: Of the model; what it gives away stays.
        known: Stored values.
    """
    around = _Around(nodes, set(outputs), known)
    replaced: dict[int, Node | None] = {}
    for node in nodes:
        if id(node) in replaced:
            continue
        found = next(filter(None, (look(node, around) for look in _PATTERNS)), None)
        if found is not None and not any(id(n) in replaced for n in found.instead_of):
            replaced.update((id(n), None) for n in found.instead_of[:-1])
            replaced[id(found.instead_of[-1])] = found.node
    chosen = (replaced.get(id(node), node) for node in nodes)
    return [node for node in chosen if node is not None]


class _Around:
    """A list of nodes by their values."""

    def __init__(self, nodes: list[Node], outputs: set[str], known: KnownValues) -> None:
        self.known = known
        self._outputs = outputs
        self.made_by = {value: node for node in nodes for value in node.outputs}
        self._takers: dict[str, list[Node]] = {}
        for node in nodes:
            for value in node.inputs:
                self._takers.setdefault(value, []).append(node)

    def only_taker(self, node: Node) -> Node | None:
        """The one node that takes what ``node`` makes; None where there are others."""
        takers = self._takers.get(node.outputs[0], []) if node.outputs else []
        one = len(takers) == 1 and node.outputs[0] not in self._outputs
        return takers[0] if one else None

    def takers(self, value: str) -> list[Node]:
        """All that take a value."""
        return self._takers.get(value, [])

    def repeated(self, value: str) -> str | None:
        """The stored tensor that a value is several times over; None where it is no repetition."""
        several = False
        for _ in range(_STEPS):
            origin = self.known.origin(value)
            if origin in self.known.tensors:
                return origin if several else None
            node = self.made_by.get(value)
            if node is None or node.op is not Op.VIEW or not node.inputs:
                return None
            several |= node.target in ("Expand", "Tile")
            value = node.inputs[0]
        return None

    def stored_operand(self, node: Node, value: str) -> str | None:
        """The stored tensor that ``node`` joins with ``value``; None where it is not one."""
        others = [v for v in node.inputs if v != value]
        origin = self.known.origin(others[0]) if len(others) == 1 else ""
        return origin if origin in self.known.tensors else None


def _group_norm(norm: Node, around: _Around) -> _Found | None:
    """Groups laid side by side, an instance norm without affine, and back; then γ and β."""
    if norm.op is not Op.INSTANCE_NORM or {"weight", "bias"} & norm.operands.keys():
        return None
    before, after = around.made_by.get(norm.inputs[0]), around.only_taker(norm)
    if before is None or after is None or before.target != "Reshape" or after.target != "Reshape":
        return None
    grouped = around.known.integers(before.inputs[1]) or around.known.shape(before.outputs[0])
    if grouped is None or len(grouped) < 3 or not grouped[1] or grouped[1] < 1:
        return None
    operands = {"input": before.inputs[0]}
    parts = [norm, after] if around.only_taker(before) is not norm else [before, norm, after]
    for op, part in ((Op.MULTIPLY, "weight"), (Op.ADD, "bias")):
        following = around.only_taker(parts[-1])
        if following is None or following.op is not op:
            break
        stored = around.stored_operand(following, parts[-1].outputs[0])
        if stored is None or around.known.scalar(stored) is not None:
            break
        operands[part] = stored
        parts.append(following)
    settings: dict[str, Setting] = {"num_groups": grouped[1], "eps": norm.settings.get("eps")}
    return _Found(
        replace(
            norm,
            op=Op.GROUP_NORM,
            inputs=tuple(operands.values()),
            outputs=parts[-1].outputs,
            operands=operands,
            settings=settings,
        ),
        tuple(parts),
    )


def _tracking_instance_norm(norm: Node, around: _Around) -> _Found | None:
    """Running statistics repeated for each sample, applied to samples laid side by side."""
    if norm.op is not Op.BATCH_NORM or norm.training or not norm.inputs:
        return None
    before, after = around.made_by.get(norm.inputs[0]), around.only_taker(norm)
    if before is None or after is None or before.target != "Reshape" or after.target != "Reshape":
        return None
    operands = {"input": before.inputs[0]}
    for part, neutral in _NEUTRAL.items():
        stored = around.repeated(norm.operands.get(part, ""))
        if neutral is not None and (stored is None or around.known.constant(stored, neutral)):
            continue  # made up by the exporter, where the layer has no γ and β
        if stored is None:
            return None
        operands[part] = stored
    parts = [norm, after] if around.only_taker(before) is not norm else [before, norm, after]
    return _Found(
        replace(
            norm,
            op=Op.INSTANCE_NORM,
            inputs=tuple(operands.values()),
            outputs=after.outputs,
            operands=operands,
            settings={"eps": norm.settings.get("eps"), "uses_input_statistics": False},
        ),
        tuple(parts),
    )


def _gated(gate: Node, around: _Around) -> _Found | None:
    """``x · sigmoid(x)`` and its relatives."""
    product = around.only_taker(gate)
    if product is None or product.op is not Op.MULTIPLY or not gate.inputs:
        return None
    other = [v for v in product.inputs if v != gate.outputs[0]]
    name, parts, value = "", [gate, product], gate.inputs[0]
    if gate.settings.get("activation") == "sigmoid":
        name = "SiLU"
    elif gate.settings.get("activation") == "tanh":
        softplus = around.made_by.get(value)
        if softplus is not None and softplus.target == "Softplus":
            name, value = "Mish", softplus.inputs[0]
            if around.only_taker(softplus) is gate:
                parts.insert(0, softplus)
    elif gate.target == "HardSigmoid" and gate.settings == {"alpha": 0.1666667, "beta": 0.5}:
        name = "hardswish"
    if not name or other != [value]:
        return None
    return _Found(_activation(product, name, value), tuple(parts))


def _hard_swish(clip: Node, around: _Around) -> _Found | None:
    """``x · clip(x + 3, 0, 6) / 6``, the last two in either order."""
    if clip.target != "Clip" or not clip.inputs:
        return None
    if (clip.settings.get("min"), clip.settings.get("max")) != (0.0, 6.0):
        return None
    shifted = around.made_by.get(clip.inputs[0])
    if shifted is None or shifted.op is not Op.ADD or len(shifted.inputs) != 2:
        return None
    value, *rest = sorted(shifted.inputs, key=lambda v: around.known.scalar(v) is not None)
    if around.known.scalar(rest[0]) != 3:
        return None
    parts = [clip]
    gated, scaled = False, False
    for _ in range(2):
        following = around.only_taker(parts[-1])
        if following is None:
            return None
        others = [v for v in following.inputs if v != parts[-1].outputs[0]]
        factor = around.known.scalar(others[0]) if len(others) == 1 else None
        if following.op is Op.MULTIPLY and others == [value]:
            gated = True
        elif factor is not None and _is_a_sixth(following, parts[-1].outputs[0], factor):
            scaled = True
        else:
            return None
        parts.append(following)
    if not gated or not scaled:
        return None
    if around.only_taker(shifted) is clip:
        parts.insert(0, shifted)
    return _Found(_activation(parts[-1], "hardswish", value), tuple(parts))


def _is_a_sixth(node: Node, value: str, factor: float) -> bool:
    """Whether a node makes a sixth of a value."""
    if node.op is Op.DIVIDE:
        return node.inputs[0] == value and factor == 6
    return node.op is Op.MULTIPLY and abs(6 * factor - 1) < _ROUNDED


def _gelu(erf: Node, around: _Around) -> _Found | None:
    """``x · (erf(x / √2) + 1) / 2``, the factors in any order."""
    scaled = around.made_by.get(erf.inputs[0]) if erf.target == "Erf" and erf.inputs else None
    one_more = around.only_taker(erf)
    if scaled is None or one_more is None or one_more.op is not Op.ADD:
        return None
    value = scaled.inputs[0]
    parts = [scaled, erf, one_more]
    joined: list[str] = []
    halved = False
    # Two products follow, with the value and with one half; or the value was halved before.
    for _ in range(2):
        following = around.only_taker(parts[-1])
        if following is None or following.op is not Op.MULTIPLY:
            break
        joined += [v for v in following.inputs if v != parts[-1].outputs[0]]
        parts.append(following)
    for operand in joined:
        half = around.made_by.get(operand)
        halved |= around.known.scalar(operand) == 0.5 or (
            half is not None
            and half.op is Op.MULTIPLY
            and value in half.inputs
            and any(around.known.scalar(v) == 0.5 for v in half.inputs)
        )
    if scaled.op not in (Op.DIVIDE, Op.MULTIPLY) or not halved:
        return None
    if around.only_taker(scaled) is not erf:
        parts = parts[1:]
    return _Found(_activation(parts[-1], "GELU", value), tuple(parts))


def _activation(last: Node, name: str, value: str) -> Node:
    return replace(
        last,
        op=Op.ACTIVATION,
        inputs=(value,),
        operands={"input": value},
        settings={"activation": name},
    )


def _random_mask(compared: Node, around: _Around) -> _Found | None:
    """Uniform numbers below a fixed probability."""
    if compared.target not in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        return None
    for position, value in enumerate(compared.inputs):
        drawn = around.made_by.get(value)
        others = compared.inputs[:position] + compared.inputs[position + 1 :]
        p = around.known.scalar(others[0]) if len(others) == 1 else None
        if drawn is None or p is None or not drawn.target.startswith("RandomUniform"):
            continue
        below = compared.target.startswith("Less") == (position == 0)
        node = replace(
            compared,
            op=Op.RANDOM_MASK,
            inputs=drawn.inputs,
            operands={},
            settings={"p": p if below else 1 - p},
        )
        alone = around.only_taker(drawn) is compared
        return _Found(node, (drawn, compared) if alone else (compared,))
    return None


def _bernoulli(drawn: Node, around: _Around) -> _Found | None:
    """Draws whose probabilities are one stored number, not what a model computed."""
    if drawn.target != "Bernoulli" or not drawn.inputs:
        return None
    p = around.known.scalar(around.known.origin(drawn.inputs[0]))
    if p is None:
        return None
    return _Found(replace(drawn, op=Op.RANDOM_MASK, settings={"p": p}), (drawn,))


_PATTERNS = (
    _group_norm,
    _tracking_instance_norm,
    _gated,
    _hard_swish,
    _gelu,
    _random_mask,
    _bernoulli,
)
