"""The same model in other formats, under other names, in other types."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import normcheck
from normcheck.compare.tensor_names import aligned
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle
from tests.runs.training_runs import Net, compared, copy_of, save, told, train, trained

pytestmark = pytest.mark.slow

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def net() -> Net:
    """A trained network; tests work on copies."""
    return trained()


def _zip(net: Net, path: Path) -> None:
    torch.save(net.state_dict(), path)


def _legacy(net: Net, path: Path) -> None:
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)


def _module(net: Net, path: Path) -> None:
    torch.save(net, path)


def _safetensors(net: Net, path: Path) -> None:
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)


def _checkpoint(net: Net, path: Path) -> None:
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, path)


def _channels_last(net: Net, path: Path) -> None:
    torch.save(copy_of(net).to(memory_format=torch.channels_last).state_dict(), path)  # type: ignore[call-overload]


FORMS = [_zip, _legacy, _module, _safetensors, _checkpoint, _channels_last]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", [_zip, _safetensors])
def test_formats(
    net: Net,
    tmp_path: Path,
    form: Callable[[Net, Path], None],
    other: Callable[[Net, Path], None],
) -> None:
    """Any two forms of one model are identical, with all norms and weights compared."""
    form(net, tmp_path / "a")
    other(net, tmp_path / "b")
    diff = compared(tmp_path / "a", tmp_path / "b")
    assert told(diff).startswith("Nothing moved")
    step = diff.comparisons[0].total
    assert (len(step.layers), step.tensors) == (3, 5)
    assert {n.path: n.weights_path for n in step.layers} == {
        "backbone.1": "backbone.0",
        "backbone.4": "backbone.3",
        "neck.1": "neck.0",
    }
    assert diff.findings == ()


PREFIXES = {
    "DataParallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled DataParallel": lambda name: f"_orig_mod.module.{name}",
    "Lightning": lambda name: f"model.{name}",
    "averaged": lambda name: f"ema_model.module.{name}",
    "checkpoint wrapper inside": lambda name: name.replace(
        "backbone.", "backbone._checkpoint_wrapped_module."
    ),
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("first", [True, False])
def test_prefixes(net: Net, tmp_path: Path, prefix: str, *, first: bool) -> None:
    """Wrappers and prefixes on either side are no difference."""
    renamed = {PREFIXES[prefix](name): value for name, value in net.state_dict().items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    save(net, tmp_path, "plain.pt")
    order = ["renamed.pt", "plain.pt"] if first else ["plain.pt", "renamed.pt"]
    diff = compared(*(tmp_path / name for name in order))
    assert told(diff).startswith("Nothing moved")
    assert len(diff.comparisons[0].total.layers) == 3
    assert (diff.comparisons[0].only_old, diff.comparisons[0].only_new) == ((), ())
    assert diff.findings == ()


def test_a_backbone_and_the_model_built_around_it(net: Net, tmp_path: Path) -> None:
    """A prefix of a part: the part is compared, the rest is listed."""
    inner = {
        name.removeprefix("backbone."): value
        for name, value in net.state_dict().items()
        if name.startswith("backbone.")
    }
    torch.save(inner, tmp_path / "backbone.pt")
    whole = save(train(copy_of(net)), tmp_path, "whole.pt")
    (comparison,) = compared(tmp_path / "backbone.pt", whole).comparisons
    assert [layer.path for layer in comparison.total.layers] == ["1", "4"]
    assert comparison.only_new == ("neck.1",)


def test_a_replaced_head_is_left_out(net: Net, tmp_path: Path) -> None:
    """Fine-tuning on other classes: what has another shape is not compared."""
    tuned = copy_of(net)
    tuned.head = nn.Linear(8, 7)
    tuned.extra = nn.BatchNorm1d(7)
    new = train(tuned)
    (comparison,) = compared(
        save(net, tmp_path, "old.pt"), save(new, tmp_path, "new.pt")
    ).comparisons
    assert comparison.total.tensors == 3
    assert comparison.only_new == ("extra",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("first", [True, False])
def test_other_types_of_the_same_model(
    net: Net, tmp_path: Path, dtype: torch.dtype, *, first: bool
) -> None:
    """Rounding is no movement, neither of weights nor of statistics."""
    save(net, tmp_path, "float32.pt")
    save(copy_of(net).to(dtype), tmp_path, "other.pt")
    order = ["other.pt", "float32.pt"] if first else ["float32.pt", "other.pt"]
    diff = compared(*(tmp_path / name for name in order))
    coarse = "float32" if dtype is torch.float64 else str(dtype).removeprefix("torch.")
    assert told(diff) == (
        "Nothing moved: weights, γ and β, statistics are identical within the rounding of "
        f"{coarse}."
    )
    assert diff.findings == ()


def test_movement_above_the_rounding_is_seen(net: Net, tmp_path: Path) -> None:
    """A half-precision copy of a later checkpoint is still a later checkpoint."""
    old = save(net, tmp_path, "old.pt")
    new = save(train(copy_of(net)).half(), tmp_path, "new.pt")
    diff = compared(old, new)
    assert told(diff).startswith("Weights and statistics moved together")
    later = save(train(copy_of(net).eval()).half(), tmp_path, "eval.pt")
    (finding,) = compared(old, later).findings
    assert finding.rule == "NC601"
    assert finding.confidence == "medium"


def test_norms_without_statistics(tmp_path: Path) -> None:
    """A LayerNorm model: nothing can stand still, and the story says what moved."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
    save(model, tmp_path, "old.pt")
    model(torch.randn(4, 6)).square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    save(model, tmp_path, "new.pt")
    diff = compared(tmp_path / "old.pt", tmp_path / "new.pt")
    assert diff.findings == ()
    assert told(diff).endswith("these norms keep no statistics that could fall behind.")
    (layer,) = diff.comparisons[0].total.layers
    assert layer.weights is not None
    assert layer.weights.moved
    assert layer.mean is None


def test_no_norms_at_all(tmp_path: Path) -> None:
    """Weights alone are compared as well."""
    torch.save({"fc.weight": torch.ones(3, 2)}, tmp_path / "a.pt")
    torch.save({"fc.weight": torch.full((3, 2), 1.5)}, tmp_path / "b.pt")
    assert told(compared(tmp_path / "a.pt", tmp_path / "b.pt")) == (
        "Weights moved by 33 % of their length; there are no norms."
    )


def test_norms_of_other_widths_are_not_said_to_be_none(tmp_path: Path) -> None:
    """Another architecture has norms, of which none can be held against another."""
    for name, width in (("old.pt", 8), ("new.pt", 12)):
        torch.manual_seed(width)
        model = nn.Sequential(
            nn.Linear(6, width), nn.BatchNorm1d(width), nn.Linear(width, 2), nn.Linear(2, 2)
        )
        save(model, tmp_path, name)
    diff = compared(tmp_path / "old.pt", tmp_path / "new.pt")
    assert told(diff).endswith("; no norm has a counterpart.")
    text = render_diff_text(diff, TextStyle())
    assert "no norm layer in common; " in text
    assert "only in" in text


def test_frozen_batch_norm_of_a_whole_module(net: Net, tmp_path: Path) -> None:
    """Statistics of a layer that is known never to update them do not stand still."""
    torchvision_like = type("FrozenBatchNorm2d", (nn.Module,), {})
    frozen = torchvision_like()
    for name, value in net.neck[1].state_dict().items():
        if "num" not in name:
            frozen.register_buffer(name, value.clone())
    model = copy_of(net)
    model.neck[1] = frozen
    path = tmp_path / "old.pt"
    globals()["FrozenBatchNorm2d"] = torchvision_like
    torchvision_like.__module__ = __name__
    torch.save(model, path)
    with torch.no_grad():
        model.neck[0].weight.add_(0.1)
    torch.save(model, tmp_path / "new.pt")
    diff = compared(path, tmp_path / "new.pt")
    assert all("neck.1" not in finding.layers for finding in diff.findings)


def test_another_model_is_an_error(net: Net, tmp_path: Path) -> None:
    """Nothing in common: the file is named, and what diff is for."""
    torch.save(
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict(), tmp_path / "other.pt"
    )
    diff = normcheck.diff([save(net, tmp_path, "net.pt"), tmp_path / "other.pt"])
    (error,) = diff.report.errors
    assert "other.pt" in error.message
    assert "one model" in error.hint
    assert diff.comparisons == ()


names = st.lists(
    st.lists(st.sampled_from(["a", "b", "conv", "0", "1", "module"]), min_size=1, max_size=4).map(
        lambda parts: ".".join([*parts, "weight"])
    ),
    min_size=1,
    max_size=12,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(names, st.sampled_from(["", "model.", "module.", "net.inner."]))
def test_renaming_is_undone(tensors: list[str], prefix: str) -> None:
    """Whatever the names, a prefix on all of them is taken off again, and none is lost."""
    shapes = {name: (index + 1,) for index, name in enumerate(tensors)}
    renamed = aligned({prefix + name: shape for name, shape in shapes.items()}, shapes)
    assert {prefix + name: name for name in tensors} == renamed


@settings(max_examples=60, deadline=None)
@given(names, names)
def test_no_two_tensors_get_one_name(first: list[str], second: list[str]) -> None:
    """Aligned names are unique, so that no tensor hides another."""
    renamed = aligned(dict.fromkeys(first, (2,)), dict.fromkeys(second, (2,)))
    assert len(set(renamed.values())) == len(renamed)
