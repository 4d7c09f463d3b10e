"""What the files of this package fill as they are imported: factories and their known oddities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

Factory = Callable[[], nn.Module]
Inputs = Callable[[], tuple[Any, ...]]

#: Name -> a factory of a small model in the naming of a real project.
ARCHITECTURES: dict[str, Factory] = {}

#: Name -> a callable that gives the positional arguments of a training-mode forward pass.
EXAMPLE_INPUTS: dict[str, Inputs] = {}

#: Name -> path -> why a state dict cannot tell this module, which is no norm, from one.
LOOKALIKES: dict[str, dict[str, str]] = {}

#: Class name -> why modules of this class are no norms although the name speaks of one.
MISNAMED: dict[str, str] = {
    "Conv2dNormActivation": "a Sequential with a norm inside",
    "PreNorm": "a wrapper: its child `norm` is the norm",
    "ConvDropoutNormReLU": "a wrapper: its child `norm` is the norm",
    "LayerNormLSTM": "a recurrent network with norms inside",
    "LayerNormLSTMCell": "a recurrent cell with norms inside",
    "ConditionalBatchNorm2d": "a wrapper: its child `bn` is the norm, without affine parameters",
    "ClassBatchNorm1d": "a wrapper: its child `norm` is the norm",
    "AdaptiveInstanceNorm2d": "a wrapper: its child `norm` is the norm, without affine parameters",
    "AdaLayerNorm": "a wrapper: its child `norm` is the norm, without affine parameters",
    "SequenceWiseNorm": "a wrapper: its child `module` is the norm",
    "NoNorm": "an elementwise product and sum, with the names of the norm that it replaces",
    "NormalizeInput": "a fixed preprocessing step",
    "PatchTSTBatchNorm": "a wrapper: its child `batchnorm` is the norm",
    "StableLmLayerNormPerHead": "a wrapper: its child `norms` lists the norms",
    "Wav2Vec2EncoderLayerStableLayerNorm": "an encoder layer with norms inside",
    "Wav2Vec2EncoderStableLayerNorm": "an encoder with norms inside",
    "Wav2Vec2GroupNormConvLayer": "a convolution with a norm inside",
    "Wav2Vec2LayerNormConvLayer": "a convolution with a norm inside",
    "Wav2Vec2NoLayerNormConvLayer": "a convolution",
    "_SpectralNorm": "a parametrization of a weight",
    "_WeightNorm": "a parametrization of a weight",
}

#: Name -> where the norm is -> its kind, for norms that are not registered as submodules.
HIDDEN: dict[str, dict[str, str]] = {}

#: Name -> why torch.save refuses the whole module; its state dict can be saved.
STATE_DICT_ONLY: dict[str, str] = {}


def architecture(
    inputs: Inputs | None = None,
    *,
    lookalikes: Mapping[str, str] | None = None,
    hidden: Mapping[str, str] | None = None,
    state_dict_only: str | None = None,
) -> Callable[[Factory], Factory]:
    """Register the decorated factory under its own function name."""

    def register(factory: Factory) -> Factory:
        name = factory.__name__
        if name in ARCHITECTURES:
            raise ValueError(f"two architectures are called {name!r}")
        ARCHITECTURES[name] = factory
        if inputs is not None:
            EXAMPLE_INPUTS[name] = inputs
        for store, notes in ((LOOKALIKES, lookalikes), (HIDDEN, hidden)):
            if notes:
                store[name] = dict(notes)
        if state_dict_only is not None:
            STATE_DICT_ONLY[name] = state_dict_only
        return factory

    return register


def floats(*shape: int) -> Inputs:
    """Give one tensor of normal noise."""
    return lambda: (torch.randn(shape),)


def tokens(vocabulary: int, *shape: int) -> Inputs:
    """Give one tensor of token numbers."""
    return lambda: (torch.randint(vocabulary, shape),)


def together(*parts: Inputs) -> Inputs:
    """Give the arguments of all parts, in order."""
    return lambda: tuple(argument for part in parts for argument in part())
