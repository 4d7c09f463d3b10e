"""Modules that run another forward than the one that their class was written with."""

import torch
from torch import nn

from normcheck.wording import fold, plural


def replaced_forwards(model: nn.Module) -> str:
    """A note on modules whose ``forward`` was set from outside; empty where there are none.

    On the module itself (``module.forward = ...``, as accelerate's hooks and many patches do), or
    on a class of ``torch.nn``. Reads attributes only.
    """
    own, patched = [], []
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # its forward is compiled, and always its own
        if "forward" in vars(module):
            own.append(path or type(module).__name__)
        elif _is_patched(type(module)):
            patched.append(path or type(module).__name__)
    parts = []
    if own:
        parts.append(f"{plural(len(own), 'module')} with a forward set on the module: {fold(own)}")
    if patched:
        parts.append(
            f"{plural(len(patched), 'module')} of torch.nn whose class got another forward: "
            f"{fold(patched)}"
        )
    return f"{'; '.join(parts)}. That is what ran, not what the class says" if parts else ""


def _is_patched(kind: type[nn.Module]) -> bool:
    owner = next((c for c in kind.__mro__ if "forward" in vars(c)), None)
    if owner is None or not owner.__module__.startswith("torch.nn."):
        return False
    home = getattr(vars(owner)["forward"], "__module__", None)
    return isinstance(home, str) and home.split(".")[0] != "torch"
