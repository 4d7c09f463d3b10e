"""Which module of the source an ONNX node was made from, as far as the exporter left word of it."""

import re
from collections.abc import Mapping

from normcheck.formats.onnx.flattened_graph import Call
from normcheck.lazy_dataclass import lazy_dataclass

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_SOURCE = "pkg.torch.onnx.fx_node"
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_REPEATED = re.compile(r"@\d+$")
"""What a module that runs more than once is called from the second time on."""
_ARGUMENTS = re.compile(r"\(args = \((.*)\), kwargs", re.DOTALL)
_FOLDED_NAME = re.compile(r"onnx::Conv(?:Transpose)?_\d+$")
"""What the TorchScript exporter calls weights that it computed."""
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_LONGEST = 1 << 16
"""Characters of an entry that is looked at; those of real models have a few hundred."""


@lazy_dataclass()
class Provenance:
    """Where in the source a node comes from."""

    module: str = ""
    class_path: str | None = None
    operator: str = ""
    """Of ATen: ``aten.instance_norm.default``; empty where the file does not say."""
    arguments: tuple[str, ...] = ()
    """Of that operator, as the exporter printed them."""
    folded: tuple[str, bool | None] | None = None
    """Path of a batch norm that went into the weights of this node, and its mode."""


def provenance(call: Call, parts: Mapping[str, str]) -> Provenance:
    """What is known of a call's source.

    Args:
        call: As in the file.
        parts: Its inputs by their part, as :class:`~normcheck.saved.graph.Node` has them.
    """
    scopes, classes = _listed(call, _SCOPES), _listed(call, _CLASSES)
    by_weights = _by_weights(parts)
    if len(scopes) < 2:
        module = by_weights if by_weights is not None else _by_name(call.name)
        return Provenance(module, folded=_computed(call, parts, module))
    module = _REPEATED.sub("", scopes[-2])
    operator = classes[-1] if classes else ""
    class_path = classes[-2] if len(classes) > 1 else None
    arguments = _arguments(call)
    if call.op_type in _WEIGHTED and "batch_norm" in operator:
        mode = _mode(operator, arguments)
        return Provenance(by_weights or "", None, folded=(module, mode))
    return Provenance(module, class_path, operator, arguments)


def _computed(call: Call, parts: Mapping[str, str], module: str) -> tuple[str, bool | None] | None:
    """A convolution whose weight and bias were both computed by the TorchScript exporter.

    It renames what it computes, and computes both of them only when it folds a batch norm, in
    eval mode alone; of that module nothing is left, so that the convolution's path has to do.
    """
    computed = [_FOLDED_NAME.match(parts.get(part, "")) for part in ("weight", "bias")]
    return (module, False) if call.op_type in _WEIGHTED and all(computed) else None


def _mode(operator: str, arguments: tuple[str, ...]) -> bool | None:
    if "no_training" in operator:
        return False
    named = [a for a in arguments if a in ("True", "False")]
    if named:
        return named[0] == "True"
    return True if "functional" in operator else None


def _listed(call: Call, key: str) -> list[str]:
    text = call.metadata.get(key, "")
    if len(text) > _LONGEST:
        return []
    return [first or second for first, second in _QUOTED.findall(text)]


def _arguments(call: Call) -> tuple[str, ...]:
    text = call.metadata.get(_SOURCE, "")
    found = _ARGUMENTS.search(text) if len(text) <= _LONGEST else None
    return tuple(part.strip() for part in found.group(1).split(",")) if found else ()


def _by_weights(parts: Mapping[str, str]) -> str | None:
    """The module whose weights are all that a node takes, by their names."""
    found = {
        module
        for part, value in parts.items()
        for module, _, leaf in [value.rpartition(".")]
        if leaf == part and part != "input"
    }
    return found.pop() if len(found) == 1 else None


def _by_name(name: str) -> str:
    """The module in a name such as ``/layer1/layer1.0/bn1/BatchNormalization``."""
    if not name.startswith("/"):
        return ""
    path: list[str] = []
    for part in name.split("/")[1:-1]:
        # A child of a Sequential is called by both: layer1, then layer1.0.
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)
