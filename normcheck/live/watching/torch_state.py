"""The state of torch, numpy and Python that a forward can change, and how to put it back."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Undo = Callable[[], None]
"""Puts one thing back."""


def global_state() -> list[Undo]:
    """Random number generators, grad mode, autocast, global hooks and other switches."""
    undo = [
        bound(random.setstate, random.getstate()),
        bound(np.random.set_state, np.random.get_state()),
        bound(torch.set_rng_state, torch.get_rng_state()),
        bound(torch.set_grad_enabled, torch.is_grad_enabled()),
        bound(torch.set_default_dtype, torch.get_default_dtype()),
        bound(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
        bound(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()),
        bound(torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled()),
        _deterministic(),
        _cudnn(),
        _attention(),
        _default_device(),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        undo.append(bound(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        undo.append(bound(torch.mps.set_rng_state, torch.mps.get_rng_state()))
    undo += [_autocast(device) for device in ("cpu", "cuda")]
    hooks = torch.nn.modules.module
    for name, value in list(vars(hooks).items()):
        if name.startswith("_global_") and isinstance(value, dict):
            undo.append(container(value))
    return undo


def _deterministic() -> Undo:
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()

    def undo() -> None:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)

    return undo


def _attention() -> Undo:
    """Which implementations of attention may be used."""
    backends = torch.backends.cuda
    names = ("flash", "mem_efficient", "math", "cudnn")
    kept = [getattr(backends, f"{name}_sdp_enabled")() for name in names]

    def undo() -> None:
        for name, value in zip(names, kept, strict=True):
            getattr(backends, f"enable_{name}_sdp")(value)

    return undo


def _default_device() -> Undo:
    kept = _device_by_default()

    def undo() -> None:
        if _device_by_default() != kept:
            torch.set_default_device(kept)

    return undo


def _device_by_default() -> torch.device:
    try:
        return torch.get_default_device()
    except AttributeError:  # torch 2.4, once somebody has taken the default back with None
        return torch.device("cpu")


def _cudnn() -> Undo:
    names = ("enabled", "benchmark", "deterministic", "allow_tf32")
    kept = [getattr(torch.backends.cudnn, name) for name in names]

    def undo() -> None:
        for name, value in zip(names, kept, strict=True):
            if getattr(torch.backends.cudnn, name) != value:
                setattr(torch.backends.cudnn, name, value)

    return undo


def _autocast(device: str) -> Undo:
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    cached = torch.is_autocast_cache_enabled()

    def undo() -> None:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(cached)

    return undo


def bound(function: Callable[[Any], object], value: Any) -> Undo:
    """Give ``function`` the value that it was asked for now."""

    def undo() -> None:
        function(value)

    return undo


def container(value: Any) -> Undo:
    """The members of a dictionary, list, set or deque, each the same object."""
    kept = value.copy()

    def same() -> bool:
        if len(value) != len(kept):
            return False
        if isinstance(value, dict):
            pairs = zip(value.items(), kept.items(), strict=True)
            return all(a is c and b is d for (a, b), (c, d) in pairs)
        if isinstance(value, set):
            return bool(value == kept)
        return all(a is b for a, b in zip(value, kept, strict=True))

    def undo() -> None:
        if not same():
            value.clear()
            value.extend(kept) if isinstance(value, list | deque) else value.update(kept)

    return undo
