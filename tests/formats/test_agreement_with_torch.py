"""Whatever torch saves, our readers say of it what ``torch.load`` says, bit for bit."""

import io
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn, serialization

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Checkpoint
from normcheck.saved.tensors import TensorRef
from tests.saved.test_dtypes import COMPLEX, FLOAT8, PLAIN

MANY = int(os.environ.get("NORMCHECK_EXAMPLES", "0"))
"""Files of each kind that ``make agreement`` asks for; without it a share, always the same."""
EXAMPLES = settings(
    max_examples=MANY or 80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not MANY,
    database=None,
)
WIDENED = (*FLOAT8, "bfloat16", "complex32")
"""Types that numpy does not have; their values come wider, so that bits cannot be compared."""
FORMS = ("zip", "legacy", "pickle")


@pytest.fixture(scope="module", autouse=True)
def sources_read_once() -> Iterator[None]:
    """The legacy format has the source text of every class, which torch parses anew each time.

    That took two thirds of the time; the files are the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        cached = cache(serialization.get_source_lines_and_file)
        patch.setattr(serialization, "get_source_lines_and_file", cached)
        yield


def write(thing: Any, form: str) -> bytes:
    raw = io.BytesIO()
    if form == "pickle":
        pickle.dump(thing, raw)
    else:
        torch.save(thing, raw, _use_new_zipfile_serialization=form == "zip")
    return raw.getvalue()


def load(raw: bytes, form: str) -> Any:
    if form == "pickle":
        return pickle.loads(raw)
    return torch.load(io.BytesIO(raw), weights_only=False)


@contextmanager
def both(thing: Any, form: str) -> Iterator[tuple[Any, Checkpoint]]:
    """``thing`` as torch (or pickle) loads it again, and as we read it."""
    raw = write(thing, form)
    try:
        theirs = load(raw, form)
    except AttributeError:
        # torch writes its newer types into the older formats, but cannot load them again.
        theirs = load(write(thing, "zip"), "zip")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        path.write_bytes(raw)
        checkpoint = read_checkpoint(path)
        yield theirs, checkpoint
        checkpoint.close()


def assert_same(ours: TensorRef | None, theirs: torch.Tensor) -> None:
    """The same type, shape, flags and numbers, down to the bits of NaNs and zeros."""
    assert ours is not None
    name = str(theirs.dtype).removeprefix("torch.")
    assert (ours.dtype.name, ours.shape) == (name, tuple(theirs.shape))
    assert ours.parameter == isinstance(theirs, nn.Parameter)
    assert ours.requires_grad == theirs.requires_grad
    values, theirs = ours.values(), theirs.detach()
    if name in WIDENED:
        wide = torch.complex128 if name in COMPLEX else torch.float64
        expected = theirs.to(wide).numpy()
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(values.astype(expected.dtype), expected)
        np.testing.assert_array_equal(
            np.signbit(values.real)[expected.real == 0],
            np.signbit(expected.real)[expected.real == 0],
        )
    else:
        assert values.tobytes() == theirs.resolve_conj().numpy().tobytes()


@st.composite
def storages(draw: Any) -> torch.Tensor:
    """A few numbers of any type, of any bits."""
    dtype = getattr(torch, draw(st.sampled_from((*PLAIN, *FLOAT8, *COMPLEX))))
    count = draw(st.integers(0, 24))
    raw = torch.frombuffer(
        bytearray(draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)))
        or bytearray(dtype.itemsize),
        dtype=torch.uint8,
    ).clone()
    if dtype == torch.bool:
        raw %= 2
    return raw.view(dtype)[:count]


@st.composite
def views(draw: Any, base: torch.Tensor) -> torch.Tensor:
    """Any view within ``base``: strided, expanded, overlapping, empty, a single number."""
    if base.numel() == 0:
        return base.reshape(draw(st.sampled_from([(0,), (0, 3), (2, 0)])))
    offset = draw(st.integers(0, base.numel() - 1))
    left, shape, strides = base.numel() - 1 - offset, [], []
    for _ in range(draw(st.integers(0, 4))):
        stride = draw(st.integers(0, max(1, left)))
        length = draw(st.integers(0 if not shape else 1, 1 + (left // stride if stride else 3)))
        shape.append(length)
        strides.append(stride)
        left -= max(0, length - 1) * stride
    return base.as_strided(shape, strides, offset)


@st.composite
def tensors(draw: Any, base: torch.Tensor) -> torch.Tensor:
    """A view of ``base``, perhaps as a parameter, perhaps with torch's lazy bits."""
    tensor = draw(views(base))
    if tensor.is_complex() and draw(st.booleans()):
        tensor = tensor.conj()
    if draw(st.booleans()):
        gradients = tensor.is_floating_point() and draw(st.booleans())
        return nn.Parameter(tensor, requires_grad=gradients)
    return tensor


@st.composite
def state_dicts(draw: Any) -> dict[str, torch.Tensor]:
    """A state dict of tensors over a few storages, some of them tied."""
    bases = draw(st.lists(storages(), min_size=1, max_size=3))
    known = [draw(tensors(draw(st.sampled_from(bases)))) for _ in range(draw(st.integers(1, 5)))]
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=7, unique=True))
    return {f"{name}.weight": draw(st.sampled_from(known)) for name in names}


@given(state_dicts(), st.sampled_from(FORMS))
@EXAMPLES
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_state_dicts(state: dict[str, torch.Tensor], form: str) -> None:
    """Random state dicts: every name, in order, every tensor, and which share a storage."""
    with both(state, form) as (theirs, checkpoint):
        (model,) = checkpoint.models
        assert list(model.tensors) == list(theirs)
        for name, tensor in theirs.items():
            assert_same(model.tensors[name], tensor)
        if form != "pickle":  # which keeps no storage but writes it again for each tensor
            for a in theirs:
                for b in theirs:
                    tied = theirs[a].untyped_storage()._cdata == theirs[b].untyped_storage()._cdata
                    assert tied == (model.tensors[a].storage is model.tensors[b].storage)


LAYERS = (
    lambda: nn.Linear(2, 3, bias=False),
    lambda: nn.Conv2d(1, 2, 1, dtype=torch.float16),
    lambda: nn.BatchNorm2d(3, momentum=None),
    lambda: nn.BatchNorm1d(3, affine=False, track_running_stats=False),
    lambda: nn.LayerNorm((2, 3), eps=1e-6),
    lambda: nn.GroupNorm(1, 2).double(),
    lambda: nn.InstanceNorm1d(2, track_running_stats=True),
    lambda: nn.LSTM(1, 2),
    lambda: nn.Embedding(3, 2, dtype=torch.bfloat16),
    nn.ReLU,
)
CONTAINERS = (
    lambda parts: nn.Sequential(*parts),
    nn.ModuleList,
    lambda parts: nn.ModuleDict({f"part{i}": part for i, part in enumerate(parts)}),
)


@st.composite
def modules(draw: Any) -> nn.Module:
    """A tree of layers, some of them in several places, some tied, modes at random."""
    pool = [draw(st.sampled_from(LAYERS))() for _ in range(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(1, 4))):
        parts = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4))
        pool.append(draw(st.sampled_from(CONTAINERS))(parts))
    root = pool[-1]
    for module in root.modules():
        module.training = draw(st.booleans())
    linear = [module for module in root.modules() if isinstance(module, nn.Linear)]
    if len(linear) > 1:
        linear[0].weight = linear[-1].weight
    return root


@given(modules(), st.sampled_from(FORMS))
@EXAMPLES
@pytest.mark.filterwarnings("ignore")
def test_modules(root: nn.Module, form: str) -> None:
    """Random module trees: every module once, its class, mode, attributes, tensors, paths."""
    with both({"epoch": 1, "net": root}, form) as (loaded, checkpoint):
        theirs = dict(loaded["net"].named_modules())
        (model,) = checkpoint.models
        assert model.where == "net"
        assert [record.path for record in model.modules] == list(theirs)
        for record in model.modules:
            module = theirs[record.path]
            assert record.class_path == f"{type(module).__module__}.{type(module).__qualname__}"
            assert (record.training, record.registered) == (module.training, True)
            assert record.has_children == bool(module._modules)
            for name in ("eps", "momentum", "affine", "num_groups", "normalized_shape"):
                assert record.attributes.get(name) == getattr(module, name, None)
            for ours, named in (
                (record.parameters, module._parameters),
                (record.buffers, module._buffers),
            ):
                assert list(ours) == list(named)
                for name, tensor in named.items():
                    if tensor is None:
                        assert ours[name] is None
                    else:
                        assert_same(ours[name], tensor)
        assert_aliases(model.modules, theirs)
        state = loaded["net"].state_dict()
        assert set(model.tensors) <= set(state)
        assert list(model.tensors) == [name for name in state if name in model.tensors]


def assert_aliases(records: Any, theirs: dict[str, nn.Module]) -> None:
    """Every way from one module to another is the child's path or one of its aliases."""
    path_of = {id(module): path for path, module in theirs.items()}
    ways: dict[str, set[str]] = {path: set() for path in theirs}
    for path, module in theirs.items():
        for name, child in module._modules.items():
            ways[path_of[id(child)]].add(f"{path}.{name}".lstrip("."))
    for record in records:
        assert set(record.aliases) == ways[record.path] - {record.path}
        assert len(record.aliases) == len(set(record.aliases))
