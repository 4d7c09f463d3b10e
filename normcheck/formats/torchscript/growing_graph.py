"""The graph that grows while code is followed: its operators, and the stored tensors they take."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from normcheck.errors import RefusedError
from normcheck.formats import aten
from normcheck.formats.aten import UNKNOWN, Value
from normcheck.formats.torchscript.prepacked import Packed, packed
from normcheck.formats.torchscript.script_code import is_plain, plain_name
from normcheck.formats.torchscript.script_values import ScriptModule
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.graph import Node, Op
from normcheck.sources.limits import Budget

_NUMBERS = ("float32", "float64", "int64", "int32")
_MOST_NUMBERS = 4_096
"""Numbers that are read one by one; a norm has one, and most share it."""
CONSTANTS = "CONSTANTS"
LONGEST_PLACE = 12
"""Digits of a constant's number."""
_NODE_BYTES = 2_048
_DEEPEST_TUPLE = 50


def constant(name: str, constants: tuple[object, ...]) -> object:
    """The constant that a stored value of the graph is called after; None where it is none.

    Of an object that packs tensors, the one of them that the name ends in.
    """
    place, _, part = name.removeprefix(f"{CONSTANTS}.c").partition(".")
    if not name.startswith(CONSTANTS) or not place.isdecimal() or len(place) > LONGEST_PLACE:
        return None
    held = constants[int(place)] if int(place) < len(constants) else None
    if not part:
        return held
    whole = packed(held, name)
    return whole.tensors.get(part) if whole is not None else None


@lazy_dataclass(frozen=False)
class GrowingGraph:
    """What the code that was followed until now computes."""

    constants: tuple[object, ...]
    budget: Budget
    nodes: list[Node] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    updated: set[str] = field(default_factory=set)
    exact: bool = True
    """False once a value may come from either of two branches, or from a loop."""
    made: int = 0
    """Operators."""

    def node(
        self,
        target: str,
        positional: Sequence[object],
        named: Mapping[str, object],
        module: ScriptModule,
    ) -> Value:
        """The result of one more operator, which runs in ``module``."""
        self.budget.spend(_NODE_BYTES)
        self.made += 1
        name = f"{aten.base_name(target)[0]}_{self.made}"
        class_path = plain_name(module.value.class_path)
        node = aten.node(
            target.removeprefix("torch.").removeprefix("ops."), name, positional, named, (name,),
            module.path, class_path,
        )  # fmt: skip
        self.nodes.append(node)
        if aten.in_place(target) and node.inputs and node.inputs[0] in self.stored:
            self.updated.add(self.stored[node.inputs[0]])
        if node.op is Op.BATCH_NORM and node.training:
            self.updated |= {
                self.stored[value]
                for part in ("running_mean", "running_var")
                if (value := node.operands.get(part)) in self.stored
            }
        return Value(name)

    def stored_tensor(self, name: str) -> Value:
        """A tensor of the file, by its place there."""
        self.stored[name] = name
        return Value(name)

    def constant(self, place: int) -> object:
        """A constant of the code: a stored tensor, a plain value, or ``UNKNOWN``."""
        if not 0 <= place < len(self.constants):
            return UNKNOWN
        held = self.constants[place]
        name = f"{CONSTANTS}.c{place}"
        if as_tensor(held) is not None:
            return self.stored_tensor(name)
        return held if is_plain(held) else packed(held, name) or UNKNOWN

    def prepacked(self, whole: Packed, taken: object, module: ScriptModule) -> Value:
        """The result of an operator that takes its weights from an object which packs them."""
        named: dict[str, object] = dict(whole.settings)
        named |= {part: self.stored_tensor(f"{whole.name}.{part}") for part in whole.tensors}
        result = self.node(whole.operator, [taken], named, module)
        if not whole.bounds:
            return result
        return self.node("clamp", [result], whole.bounds, module)

    def counted(self, parts: tuple[object, ...]) -> tuple[object, ...]:
        """``parts``, which may be twice two of the same twice two, each time counted."""
        waiting = [(parts, 0)]
        while waiting:
            several, depth = waiting.pop()
            if depth > _DEEPEST_TUPLE:
                raise RefusedError("values nested too deep", limit="nesting")
            self.budget.follow(len(several))
            waiting.extend((part, depth + 1) for part in several if isinstance(part, tuple))
        return parts


def numbers_among(constants: tuple[object, ...], stored: Mapping[str, str]) -> dict[str, float]:
    """The numbers among the constants, which freezing makes of those in code: an eps."""
    found: dict[str, float] = {}
    for place, constant in enumerate(constants):
        name, tensor = f"{CONSTANTS}.c{place}", as_tensor(constant)
        if name not in stored or tensor is None or tensor.ndim or not tensor.readable:
            continue
        if tensor.dtype.name in _NUMBERS and len(found) < _MOST_NUMBERS:
            found[name] = float(tensor.values().reshape(-1)[0])
    return found
