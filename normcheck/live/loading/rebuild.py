"""A live model from a pickled module tree, without running anything that the file names.

Only where every class in the tree is one of ``torch.nn``: then all the code that will run is
torch's own. The file is read by our own reader; what is made here is a blank object of each
class with the saved attributes, as ``pickle`` would make it. Classes are looked up among those
that ``torch.nn.modules`` already defines; nothing is imported for a file.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from normcheck.errors import NormcheckError, UnreadableError
from normcheck.live.torch_tensors import TensorLoader
from normcheck.pickles.inert import GlobalName, Inert, OrderedRecord, attributes_of
from normcheck.saved.tensors import TensorRef

_FUNCTION_MODULES = frozenset({"torch", "torch.nn.functional", "torch._C._nn", "torch._VF"})
_ACTIVATIONS = frozenset(
    {
        "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
        "log_softmax", "logsigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
        "softmax", "softplus", "softsign", "tanh",
    }
)  # fmt: skip
"""Functions that modules of torch keep as attributes (``TransformerEncoderLayer.activation``)."""
_GETATTR = frozenset({"builtins.getattr", "__builtin__.getattr"})
_OWNERS = frozenset({"torch._C._VariableFunctions", "torch._C._VariableFunctionsClass"})
_HOOK_CLASSES = {
    "torch.nn.utils.weight_norm.WeightNorm": WeightNorm,
    "torch.nn.utils.spectral_norm.SpectralNorm": SpectralNorm,
}
"""Hooks that torch itself puts on a module, and pickles with it."""

_NO_FORWARD = frozenset(
    {
        "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks", "_backward_hooks", "_backward_pre_hooks",
    }
)  # fmt: skip
"""Hooks that no forward calls: left out, whatever they are."""


class ForeignCodeError(NormcheckError):
    """The tree names code that is not torch's own, so that it cannot be rebuilt."""

    def __init__(self, names: list[str]) -> None:
        """Name what is foreign."""
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        super().__init__(
            f"running it needs code that the file only names: {shown}",
            "if you trust the file and its classes can be imported, add --trust; or give the "
            "model's factory with --model pkg.mod:factory",
        )


def rebuild(root: object) -> nn.Module:
    """The module tree of ``root``, as live modules.

    Args:
        root: The inert object that the reader found.

    Raises:
        ForeignCodeError: A class, hook or function is not torch's own.
        UnreadableError: A tensor has no values in the file.
    """
    maker = _Maker()
    try:
        made = maker.make(root)
    except RecursionError as error:
        raise NormcheckError("the module tree is nested too deep to rebuild") from error
    if maker.foreign:
        raise ForeignCodeError(sorted(maker.foreign))
    if not isinstance(made, nn.Module):
        raise NormcheckError("the file's object is not a module")
    return made


def module_class(path: str) -> type[nn.Module] | None:
    """The class of ``torch.nn`` with this path; None where it is not torch's.

    >>> module_class("torch.nn.modules.linear.Linear").__name__
    'Linear'
    >>> module_class("os.system")
    """
    module, _, name = path.rpartition(".")
    if not module.startswith("torch.nn.modules.") or name.startswith("_"):
        return None
    part: Any = nn.modules
    for word in module.removeprefix("torch.nn.modules.").split("."):
        part = vars(part).get(word) if isinstance(part, type(nn)) else None
    found = vars(part).get(name) if isinstance(part, type(nn)) else None
    if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module:
        return found
    return None


class _Maker:
    def __init__(self) -> None:
        self.foreign: set[str] = set()
        self._made: dict[int, Any] = {}
        self._weights = TensorLoader()

    def make(self, value: object) -> Any:
        """The live counterpart of one value of the file."""
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        known = self._made.get(id(value))
        if known is not None:
            return known
        made: Any
        if isinstance(value, TensorRef):
            made = self._tensor(value)
        elif isinstance(value, OrderedRecord | dict):
            made = self._made[id(value)] = OrderedDict() if isinstance(value, OrderedRecord) else {}
            for key, item in value.items():
                made[self.make(key)] = self.make(item)
        elif isinstance(value, list):
            made = self._made[id(value)] = []
            made.extend(self.make(item) for item in value)
        elif isinstance(value, tuple | set | frozenset):
            made = type(value)(self.make(item) for item in value)
        elif isinstance(value, GlobalName):
            made = self._named(value)
        elif isinstance(value, Inert):
            made = self._object(value)
        else:
            self.foreign.add(type(value).__name__)
            return None
        self._made[id(value)] = made
        return made

    def _tensor(self, ref: TensorRef) -> torch.Tensor:
        tensor = self._weights.tensor(ref)
        if ref.parameter:
            return nn.Parameter(tensor, requires_grad=ref.requires_grad is not False)
        return tensor

    def _named(self, name: GlobalName) -> object:
        if name.module == "torch" and isinstance(
            found := getattr(torch, name.name, None), torch.dtype
        ):
            return found
        if name.module in _FUNCTION_MODULES and name.name in _ACTIVATIONS:
            return getattr(nn.functional, name.name)
        self.foreign.add(name.dotted)
        return None

    def _object(self, value: Inert) -> object:
        if value.class_path in ("torch.device", "torch.Size") and value.args:
            return torch.device("cpu") if value.class_path == "torch.device" else value.args[0]
        if value.class_path in _GETATTR and len(value.args) == 2:
            owner, name = value.args
            # Functions of torch itself (torch.tanh) are pickled as getattr of their owner.
            known = isinstance(owner, GlobalName) and owner.dotted in _OWNERS
            if known and isinstance(name, str) and name in _ACTIVATIONS:
                return getattr(nn.functional, name)
        cls = module_class(value.class_path) or _HOOK_CLASSES.get(value.class_path)
        if cls is None or value.args or value.items or value.entries:
            self.foreign.add(value.class_path or "an object without a class")
            # What hangs on it may be foreign as well, and belongs in the same message.
            for item in attributes_of(value).values():
                self.make(item)
            return None
        blank: object
        blank = self._made[id(value)] = object.__new__(cls)
        self._fill(blank, attributes_of(value))
        return blank

    def _fill(self, blank: Any, attributes: Mapping[Any, object]) -> None:
        state = {
            name: self.make(item) for name, item in attributes.items() if name not in _NO_FORWARD
        }
        if self.foreign:
            return
        if not isinstance(blank, nn.Module):
            vars(blank).update(state)
            return
        # Files of older versions lack entries that newer code reads; __setstate__ of each
        # class of torch knows which.
        nn.Module.__init__(blank)
        state.setdefault("training", True)
        try:
            blank.__setstate__(state)  # type: ignore[no-untyped-call]
        except Exception as error:  # of torch, over a state that it never wrote
            raise UnreadableError(
                f"a {type(blank).__name__} in the file cannot be rebuilt: {error}",
                "the installed torch may be older than the one that saved it",
            ) from error
