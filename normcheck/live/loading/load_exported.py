"""Exports as modules that can be probed: each by the road that its format allows."""

import torch
from torch import nn

from normcheck.errors import NormcheckError
from normcheck.live.loading.run_program import Program
from normcheck.live.torch_tensors import TensorLoader
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel


def load_exported(checkpoint: Checkpoint, saved: SavedModel, *, trust: bool) -> nn.Module:
    """Make an export live.

    Args:
        checkpoint: The file that was read.
        saved: The model in it.
        trust: Whether the user lets code of the file run.

    Raises:
        NormcheckError: It cannot be run, or not without trust.
    """
    if saved.form is Form.EXPORTED and isinstance(saved.root, dict):
        weights = TensorLoader()
        tensors = {name: weights.tensor(ref) for name, ref in saved.tensors.items()}
        parameters = frozenset(n for n, ref in saved.tensors.items() if ref.requires_grad)
        try:
            return Program(saved.root, tensors, parameters)
        except NormcheckError:
            raise
        except Exception as error:
            # The reader looked at what it needs; what else is odd shows in many ways.
            raise NormcheckError(
                f"its graph cannot be run: {type(error).__name__}: {str(error)[:200]}",
                "export it again with a newer torch, or run its source model",
            ) from error
    if saved.form is Form.ONNX:
        from normcheck.live.loading.onnx_module import OnnxModule

        return OnnxModule(checkpoint.name)
    if not trust:
        raise NormcheckError(
            "a TorchScript archive runs code of its own",
            "--trust lets it run; or run its source model with --model pkg.mod:factory",
        )
    try:
        script: nn.Module = torch.jit.load(checkpoint.name, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise NormcheckError(f"torch.jit.load failed: {type(error).__name__}: {error}") from error
    if saved.graph is not None and not saved.graph.switchable:
        # Past its own __setattr__, which takes no attributes that the code does not have.
        vars(script)["fixed_mode"] = True
    return script
