"""Modules that torch never makes, as a file can hold them; each with what is to be said of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Fault = Callable[[nn.Sequential], Any]


def network() -> nn.Sequential:
    """What the faults are put into."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 4, 1))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), inner)


def _set(path: str, name: str, value: object) -> Fault:
    def fault(net: nn.Sequential) -> None:
        vars(net.get_submodule(path))[name] = value

    return fault


def _entry(path: str, registry: str, name: object, value: object) -> Fault:
    def fault(net: nn.Sequential) -> None:
        vars(net.get_submodule(path))[registry][name] = value

    return fault


def _without(path: str, name: str) -> Fault:
    def fault(net: nn.Sequential) -> None:
        del vars(net.get_submodule(path))[name]

    return fault


def _cycle(net: nn.Sequential) -> None:
    net[3]._modules["loop"] = net


SHADOWED = (
    "train", "eval", "forward", "modules", "named_modules", "children", "named_children",
    "parameters", "named_parameters", "buffers", "named_buffers", "state_dict", "to", "_apply",
    "_call_impl", "_wrapped_call_impl", "_named_members",
)  # fmt: skip

FAULTS: dict[str, tuple[Fault, str]] = {
    "a cycle": (_cycle, "holds itself at '3.loop'"),
    "its own child": (lambda net: _entry("", "_modules", "me", net)(net), "holds itself at 'me'"),
    **{
        f"an attribute called {name}": (
            _set("", name, 3), f"its attribute '{name}' is an int, in the place of a method"
        )
        for name in SHADOWED
    },
    "a forward below that is text": (_set("0", "forward", "x"), "0 (Conv2d): its attribute"),
    "a list of modules": (_set("3", "_modules", [1]), "'_modules' is a list, not a dictionary"),
    "a number for a module": (_entry("", "_modules", "3", 5), "'3' in its '_modules' is an int"),
    "a tensor for a module": (_entry("", "_modules", "3", torch.ones(2)), "is a Tensor, not a"),
    "no module": (_entry("", "_modules", "3", None), "NoneType"),
    "a module under a number": (_entry("", "_modules", 7, nn.ReLU()), "is an int, not text"),
    "a number for a parameter": (_entry("0", "_parameters", "weight", 5), "an int, not a tensor"),
    "text for a parameter": (_entry("0", "_parameters", "bias", "x"), "is a str, not a tensor"),
    "a number for a buffer": (_entry("1", "_buffers", "running_mean", 7), "an int, not a tensor"),
    "a list of buffers": (_set("1", "_buffers", [1]), "'_buffers' is a list"),
    "a number of transient buffers": (_set("1", "_non_persistent_buffers_set", 3), "not a set"),
    "a number of hooks": (_set("1", "_forward_hooks", 5), "'_forward_hooks' is an int"),
    "a number for a hook": (_entry("1", "_forward_pre_hooks", 0, 5), "cannot be called"),
    "no stride": (_without("0", "stride"), "no attribute 'stride'"),
    "no eps": (_without("1", "eps"), "no attribute 'eps'"),
    "no buffers": (_without("1", "_buffers"), "no attribute 'running_mean'"),
    "no weight": (lambda net: net[0]._parameters.pop("weight"), "no attribute 'weight'"),
    "a stride of text": (_set("0", "stride", "a"), "invalid combination of arguments"),
    "an eps of text": (_set("1", "eps", "x"), "TypeError"),
    "a momentum of lists": (_set("1", "momentum", [1]), "momentum"),
    "another number of channels": (
        _entry("1", "_buffers", "running_mean", torch.zeros(3)), "4 elements not 3"
    ),
    "integers for statistics": (
        _entry("1", "_buffers", "running_mean", torch.zeros(4, dtype=torch.int64)), "Long"
    ),
    "statistics without values": (
        _entry("1", "_buffers", "running_mean", torch.zeros(4, device="meta")), "a meta tensor"
    ),
    "sparse statistics": (
        _entry("1", "_buffers", "running_mean", torch.zeros(4).to_sparse()), "a sparse tensor"
    ),
}  # fmt: skip
"""What is wrong, and part of what the error says."""

HEALTHY: dict[str, Fault] = {
    "nothing": lambda _net: None,
    "attributes that nobody calls": lambda net: vars(net).update(type="resnet", half=0.5, name="n"),
    "an attribute that holds the model": lambda net: vars(net).update(whole=(net,)),
    "a shared module": lambda net: net._modules.update(again=net[2]),
    "a mode that is no flag": _set("1", "training", "no"),
    "no hooks": _without("1", "_forward_hooks"),
    "no mode": _without("1", "training"),
    "a None among the modules of a container": lambda net: net[0]._modules.update(norm=None),
    "a tensor for a parameter": _entry("0", "_parameters", "bias", torch.zeros(4)),
}
"""Odd, and to be run all the same."""

CLAIMS: dict[str, object] = {
    "fixed_mode": True,
    "fixed_batch": 7,
    "known_inputs": ["16x16"],
}
"""What our modules of exports say of themselves; a file's attribute of the name says nothing."""
