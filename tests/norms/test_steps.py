"""The modules of a model in the order in which they run, and what is made of tensors for it."""

import random
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.structure.run_order import usual_order
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.kinds import BY_NAME
from normcheck.norms.layer import Confidence, NormLayer, Recognition
from normcheck.saved.tensor_columns import TensorColumns

NORM = NormLayer("norm", BY_NAME["BatchNorm2d"], Recognition(Confidence.HIGH, ""))


def _step(path: str, norm: NormLayer | None) -> ModuleStep:
    return ModuleStep(path, (), None, norm, {})


def _place(step: ModuleStep) -> tuple[list[tuple[int, int, str]], int]:
    """Blocks by their parts, numbers as numbers; then the last number of a module's own name."""
    parent, _, last = step.path.rpartition(".")
    parts = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parent.split(".")]
    numbers = re.findall(r"\d+", last)
    return parts, int(numbers[-1]) if numbers else 0


def test_the_usual_order_is_by_block_then_number_then_kind() -> None:
    """As a sort by all three has it, of names with blocks inside blocks and numbers alike."""
    choice = random.Random(0)  # noqa: S311  # no secret
    parents = ["", "a", "a.2", "a.10", "a.2.b", "a.b", "2", "10", "b.0.0"]
    names = ["conv1", "bn1", "conv2", "bn2", "0", "1", "10", "proj", "norm", "bn12", "9x"]
    for _ in range(50):
        paths = [f"{parent}.{name}".lstrip(".") for parent in parents for name in names]
        choice.shuffle(paths)
        steps = [_step(path, NORM if choice.random() < 0.5 else None) for path in paths[:40]]
        after, before = usual_order(steps)
        assert after == sorted(steps, key=lambda s: (*_place(s), s.norm is not None))
        assert before == sorted(steps, key=lambda s: (*_place(s), s.norm is None))


def test_tensors_far_from_norms_are_not_made(tmp_path: Path) -> None:
    """Of a thousand weights beside a stem, the links need those of the stem."""
    numbers = np.random.default_rng(0)
    state = {}
    for i in range(3):
        state[f"stem.conv{i}.weight"] = numbers.standard_normal((16, 16, 3, 3)).astype("f4")
        state |= {
            f"stem.bn{i}.{name}": numbers.uniform(0.5, 1.5, 16).astype("f4")
            for name in ("weight", "bias", "running_mean", "running_var")
        }
    for i in range(1000):
        state[f"experts.{i}.proj.weight"] = np.ones((4, 4), "f4")
    save_file(state, tmp_path / "model.safetensors")
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    try:
        model = checkpoint.models[0]
        anatomy = anatomy_of(model)
        assert isinstance(model.tensors, TensorColumns)
        made = model.tensors._made
    finally:
        checkpoint.close()
    assert anatomy.agreement is not None
    assert len(anatomy.agreement.fits) == 2
    assert not [name for name in made if name.startswith("experts")]
