"""What a layer computes besides its tensors, of two models of which each may hold other parts.

A module holds attributes, a graph holds arguments of operators, a state dict neither. Only what
both sides hold is compared; what one of them holds is listed as not compared.
"""

from collections.abc import Iterator, Mapping
from math import isclose

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.belonging.structure.tracer import GATED, activation
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Momentum, NormLayer
from normcheck.saved.checkpoint import ModuleRecord, SavedModel
from normcheck.saved.graph import Flow, Graph, Node, Op, Setting

_RELATIVE = 1e-3
"""Difference that single precision and printed digits explain."""

_OF_NORMS = ("num_groups", "normalized_shape", "axis", "dim", "elementwise_affine")
_OF_WEIGHTS = ("stride", "padding", "dilation", "groups", "output_padding", "padding_mode")
_DEFAULTS: Mapping[str, Setting] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""Of a convolution, whose operator leaves out what is as usual."""
ONLY_IN_TRAINING = frozenset({"momentum", "p"})
"""Without effect on what eval mode computes."""
_MODULES: Mapping[str, str] = {
    "ReLU": "ReLU", "SiLU": "SiLU", "GELU": "GELU", "Hardswish": "hardswish", "ReLU6": "ReLU6",
    "Mish": "Mish", "Tanh": "tanh", "Sigmoid": "sigmoid", "LeakyReLU": "leaky ReLU",
    "ELU": "ELU", "Softplus": "softplus", "PReLU": "PReLU", "Hardtanh": "hardtanh",
}  # fmt: skip
"""Classes of torch's activations, by the names that graphs have for them."""
_SLOPED = frozenset({"LeakyReLU", "ELU", "Hardtanh"})
"""Those that are told apart by a constant."""


@lazy_dataclass()
class Hyperparameters:
    """Of one layer, as far as its file holds them."""

    values: Mapping[str, Setting]
    norm: bool = False


@lazy_dataclass()
class HyperparameterChange:
    """One that differs."""

    path: str
    name: str
    old: str
    new: str
    norm: bool

    @property
    def matters_in_eval(self) -> bool:
        """Whether eval mode computes otherwise for it."""
        return self.name not in ONLY_IN_TRAINING

    def __str__(self) -> str:
        """``num_groups 8 → 4``."""
        return f"{self.name} {self.old} → {self.new}"


def hyperparameters_of(model: SavedModel, anatomy: Anatomy) -> dict[str, Hyperparameters]:
    """By the path of the layer.

    Args:
        model: With modules or a graph; a state dict has only what names tell.
        anatomy: Of the model.
    """
    found: dict[str, Hyperparameters] = {}
    if model.graph is not None:
        found |= _of_graph(model.graph)
    # A graph says what is computed; the attributes of its modules may have been left behind.
    for record in model.modules or ():
        if record.path not in found and (values := _of_module(record)):
            found[record.path] = Hyperparameters(values)
    records = {record.path: record for record in model.modules or ()}
    nodes = _norm_settings(model.graph) if model.graph is not None else {}
    for layer in anatomy.layers:
        values = dict(_of_norm(layer))
        own = records.get(layer.path)
        if own is not None:
            values |= _picked(own.attributes, _OF_NORMS)
        values |= nodes.get(layer.path, {})
        if model.form.exported:
            # What exporters make of the tensors, not what the source had: γ = 1 left out or
            # written out, the momentum of the file format.
            for name in ("momentum", "affine", "gain", "track_running_stats"):
                values.pop(name, None)
        found[layer.path] = Hyperparameters({**values}, norm=True)
    return found


def _of_norm(layer: NormLayer) -> Iterator[tuple[str, Setting]]:
    if layer.eps is not None:
        yield "eps", layer.eps
    batch = layer.kind.family in (Family.BATCH, Family.INSTANCE)
    if layer.momentum is not None and batch:
        cumulative = isinstance(layer.momentum, Momentum)
        yield "momentum", str(layer.momentum) if cumulative else float(layer.momentum)
    if layer.affine is not None and layer.class_path is not None:
        yield "affine", layer.affine
    if layer.track_running_stats is not None:
        yield "track_running_stats", layer.track_running_stats
    if layer.kind.family is Family.RMS and layer.class_path is not None:
        yield "gain", "1 + weight" if layer.unit_offset else "weight"


def _picked(attributes: Mapping[str, object], names: tuple[str, ...]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for name in names:
        value = attributes.get(name)
        if isinstance(value, list):
            value = tuple(value)
        if value is not None and isinstance(value, bool | int | float | str | tuple):
            found[name] = value
    return found


def _norm_settings(graph: Graph) -> dict[str, dict[str, Setting]]:
    """What operators of norms say of groups and shapes, by module and by stored tensors."""
    found: dict[str, dict[str, Setting]] = {}
    for node in graph.nodes:
        if node.op not in (Op.GROUP_NORM, Op.LAYER_NORM, Op.RMS_NORM):
            continue
        values = _picked(node.settings, ("num_groups", "normalized_shape"))
        names = [graph.stored.get(node.operands.get(part, "")) for part in ("weight", "bias")]
        # A layer is called by its module, its tensors, or where nothing else is left its operator.
        paths = {node.module, node.name, *(name.rpartition(".")[0] for name in names if name)}
        for path in paths:
            found.setdefault(path, values)
    return found


def _of_module(record: ModuleRecord) -> dict[str, Setting]:
    attributes, name = record.attributes, record.class_name
    if name.startswith(("Dropout", "AlphaDropout", "FeatureAlphaDropout")):
        return _picked(attributes, ("p",))
    if name in _MODULES and record.class_path.startswith("torch.nn."):
        slopes = _picked(attributes, ("negative_slope", "alpha", "min_val", "max_val"))
        if name in _SLOPED and not slopes:
            return {}  # a traced module, whose slope stands in its code alone
        called = _activation_name(_MODULES[name], slopes)
        return {"activation": called, **_picked(attributes, ("approximate",))}
    if "stride" in attributes and "groups" in attributes:
        return _whole_weights(_picked(attributes, _OF_WEIGHTS))
    return {}


def _activation_name(name: str, values: Mapping[str, Setting]) -> str:
    """As the same activation is called when a graph shows it."""
    settings = dict(values)
    for theirs, ours in (("min_val", "min"), ("max_val", "max")):
        if theirs in settings:
            settings[ours] = settings.pop(theirs)
    settings["activation"] = name
    known = activation(Node(Op.ACTIVATION, "", "", (), (), settings=settings))
    return known[0] if known is not None else name


def _whole_weights(values: dict[str, Setting]) -> dict[str, Setting]:
    """Of a convolution; with borders of another sort, or "same", the numbers are elsewhere."""
    if values.pop("padding_mode", "zeros") != "zeros" or isinstance(values.get("padding"), str):
        values.pop("padding", None)
    return values


def _of_graph(graph: Graph) -> dict[str, Hyperparameters]:
    """Of the layers of a graph whose operators tell; the norms are the anatomy's."""
    each: dict[str, list[dict[str, Setting]]] = {}
    gates = _gates(graph)
    for node in graph.nodes:
        values: dict[str, Setting] = {}
        path = node.module
        if node.op is Op.CONVOLUTION:
            weights = graph.stored.get(node.operands.get("weight", ""), "")
            path = weights.rpartition(".")[0] or path
            values = _of_convolution(node)
        elif node.op is Op.DROPOUT and node.dropped is not None and "lower" not in node.settings:
            values = {"p": node.dropped}
        elif node.op is Op.ACTIVATION and (known := activation(node)) is not None:
            # Taken apart by a decomposition or an exporter: x · sigmoid(x).
            values = {"activation": gates.get(id(node), known[0])}
            values |= _picked(node.settings, ("approximate",))
        if values and path and values not in each.setdefault(path, []):
            each[path].append(values)
    # Several at one place are functions in a forward: no layer that another file names.
    return {path: Hyperparameters(found[0]) for path, found in each.items() if len(found) == 1}


def convolutions(graph: Graph) -> dict[str, Hyperparameters]:
    """Of the convolutions of a graph, by the name of their weights; shared ones are left out."""
    each: dict[str, list[dict[str, Setting]]] = {}
    for node in graph.nodes:
        name = graph.stored.get(node.operands.get("weight", ""))
        if node.op is Op.CONVOLUTION and name is not None:
            each.setdefault(name, []).append(_of_convolution(node))
    return {name: Hyperparameters(found[0]) for name, found in each.items() if len(found) == 1}


def _of_convolution(node: Node) -> dict[str, Setting]:
    usual = _DEFAULTS if node.target.startswith("aten") else {"groups": 1}
    values = {**usual, **_picked(node.settings, _OF_WEIGHTS)}
    if node.target in ("Conv", "com.microsoft.FusedConv"):
        values.pop("padding", None)  # a padding operator before it may have gone into it
    padding = values.get("padding")
    if node.target == "ConvTranspose" and isinstance(padding, tuple):
        # All begins, then all ends.
        begins, ends = padding[: len(padding) // 2], padding[len(padding) // 2 :]
        values["padding"] = begins
        if begins != ends:
            del values["padding"]
    return values


def _gates(graph: Graph) -> dict[int, str]:
    """Activations whose result is multiplied with what they were given: their names together."""
    flow = Flow(graph)
    found = {}
    for node in graph.nodes:
        name = GATED.get(str(node.settings.get("activation")))
        given = node.operands.get("input")
        takers = [t for value in node.outputs for t in flow.taken_by.get(value, [])]
        if name and any(t.op is Op.MULTIPLY and given in t.inputs for t in takers):
            found[id(node)] = name
    return found


def changes(
    old: Mapping[str, Hyperparameters], new: Mapping[str, Hyperparameters]
) -> Iterator[HyperparameterChange]:
    """What differs in layers of the same path, of what both sides hold."""
    for path, before in old.items():
        after = new.get(path)
        if after is None or before.norm is not after.norm:
            continue
        yield from layer_changes(path, before, after)


def layer_changes(
    path: str, before: Hyperparameters, after: Hyperparameters
) -> Iterator[HyperparameterChange]:
    """The same of one layer, whatever either file calls it."""
    for name, value in before.values.items():
        other = after.values.get(name)
        if other is not None and not _same(value, other):
            yield HyperparameterChange(path, name, _text(value), _text(other), before.norm)


def not_compared(
    old: Mapping[str, Hyperparameters], new: Mapping[str, Hyperparameters]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of what only the first holds of common norms, and of what only the second does."""
    one: dict[str, None] = {}
    two: dict[str, None] = {}
    for path, before in old.items():
        after = new.get(path)
        if after is not None and before.norm and after.norm:
            one |= dict.fromkeys(name for name in before.values if name not in after.values)
            two |= dict.fromkeys(name for name in after.values if name not in before.values)
    return tuple(one), tuple(two)


def _same(a: Setting, b: Setting) -> bool:
    if isinstance(a, tuple) or isinstance(b, tuple):
        # A number stands for as many as there are dimensions.
        one = a if isinstance(a, tuple) else (a,)
        two = b if isinstance(b, tuple) else (b,)
        length = max(len(one), len(two))
        one, two = (part * length if len(part) == 1 else part for part in (one, two))
        return len(one) == len(two) and all(
            _same(x, y)  # type: ignore[arg-type]  # settings are plain values
            for x, y in zip(one, two, strict=True)
        )
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and isclose(float(a), float(b), rel_tol=_RELATIVE)  # type: ignore[arg-type]
    return a == b


def _text(value: Setting) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple) and len(value) == 1:
        return _text(value[0])  # type: ignore[arg-type]  # a tuple of plain values
    return str(value)
