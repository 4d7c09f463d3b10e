"""Weights of a file in a model of a factory: what fits, what does not, and what is said of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normcheck.errors import NormcheckError, UsageError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.loading import load_model as loading
from normcheck.live.loading.model_factory import load
from normcheck.live.process.run_saved import run_saved
from normcheck.live.run_request import Feeding, Loading, Running
from normcheck.norms.find_norms import anatomy_of
from normcheck.saved.checkpoint import Checkpoint, SavedModel

pytestmark = pytest.mark.kernels

State = dict[str, Any]
Read = Callable[[Any], SavedModel]


def net(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def state(seed: int = 1) -> State:
    torch.manual_seed(seed)
    model = net()
    model.train()(torch.randn(8, 3))
    return dict(model.state_dict())


def under(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[Any], Checkpoint]]:
    files: list[Checkpoint] = []

    def opening(thing: Any) -> Checkpoint:
        path = tmp_path / f"{len(files)}.pt"
        torch.save(thing, path)
        files.append(read_checkpoint(path))
        return files[-1]

    yield opening
    for file in files:
        file.close()


@pytest.fixture
def read(opened: Callable[[Any], Checkpoint]) -> Read:
    """The first model of what is saved."""
    return lambda thing: opened(thing).models[0]


def assert_loaded(model: nn.Module, expected: State) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_all_names_fit(read: Read) -> None:
    """Every tensor arrives, and there is nothing to say."""
    model = net()
    assert load(model, read(state()), None) == []
    assert_loaded(model, state())


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.module.", "_orig_mod."])
def test_prefix_is_found(prefix: str, read: Read) -> None:
    """What a wrapper put before the names is found, and said."""
    model = net()
    notes = load(model, read(under(prefix, state())), None)
    assert notes == [f"read from the tensors under '{prefix}'"]
    assert_loaded(model, state())


def test_wrapper_in_the_model(read: Read) -> None:
    """A factory that wraps its model takes a file without the wrapper's name."""
    model = nn.ModuleDict({"module": net()})
    assert load(model, read(state()), None) == []
    assert_loaded(model["module"], state())


def test_two_variants_have_to_be_chosen_from(read: Read) -> None:
    """Where the file holds the model twice, both places are named, and --prefix chooses."""
    saved = read(under("left.", state(1)) | under("right.", state(2)))
    with pytest.raises(UsageError, match=r"several times, under left\., right\.") as caught:
        load(net(), saved, None)
    assert "--prefix" in caught.value.hint
    model = net()
    notes = load(model, saved, "right.")
    assert_loaded(model, state(2))
    assert notes == [
        "read from the tensors under 'right.'", "9 tensors of the file lie outside of it",
    ]  # fmt: skip


def test_model_of_its_own_comes_before_a_copy(read: Read) -> None:
    """Names without a prefix win over a copy beside them; the copy is mentioned."""
    model = net()
    notes = load(model, read(state(1) | under("twin.", state(2))), None)
    assert_loaded(model, state(1))
    assert len(notes) == 1
    assert notes[0].startswith("9 tensors of the file without a place in the model: twin.0.weight")
    assert "and 3 more" in notes[0]


@pytest.mark.parametrize("beside", ["", "model."])
def test_an_average_is_chosen_by_the_names_of_the_file(
    opened: Callable[[Any], Checkpoint], beside: str
) -> None:
    """It is a model at a place of its own, and its names in the file begin with that."""
    raw, average = opened(under(beside, state(1)) | under("ema.", state(2))).models
    assert (raw.where, average.where) == ("", "ema")
    model = net()
    load(model, average, "ema.")
    assert_loaded(model, state(2))
    for saved, prefix in ((raw, "ema."), (average, "emb.")):
        with pytest.raises(NormcheckError, match="no tensor of the file fits"):
            load(net(), saved, prefix)


class Both(nn.Module):
    """A network and its average, as modules of trainers hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.ema = net(), net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.model(x) - self.ema(x)
        return made


def test_a_module_that_holds_the_average_as_well_takes_both(
    opened: Callable[[Any], Checkpoint],
) -> None:
    """Though the file's are two models, which are judged apart without its code."""
    tensors = under("model.", state(1)) | under("ema.", state(2))
    checkpoint = opened({"state_dict": tensors})
    raw, average = checkpoint.models
    assert (raw.where, average.where) == ("state_dict", "state_dict.ema")
    both = loading.load(checkpoint, raw, Loading(Both)).module
    assert_loaded(both.get_submodule("model"), state(1))
    assert_loaded(both.get_submodule("ema"), state(2))
    with pytest.raises(NormcheckError):
        loading.load(checkpoint, average, Loading(Both))
    # A copy of the one alone takes what it needs.
    assert_loaded(loading.load(checkpoint, raw, Loading(net)).module, state(1))
    assert_loaded(loading.load(checkpoint, average, Loading(net)).module, state(2))


def test_missing_parameters_are_listed(read: Read) -> None:
    """A parameter that would stay random forbids the run; it is named."""
    tensors = state()
    del tensors["2.weight"], tensors["2.bias"]
    with pytest.raises(NormcheckError) as caught:
        load(net(), read(tensors), None)
    assert "2 parameters missing: 2.weight, 2.bias" in caught.value.message
    assert "--model-args" in caught.value.hint


def test_other_shapes_are_listed(read: Read) -> None:
    """Tensors of another shape are named with both shapes, and the model stays as it was."""
    model = net(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NormcheckError) as caught:
        load(model, read(state()), None)
    assert "0.weight (4x3 in the file, 5x3 in the model)" in caught.value.message
    assert "6 tensors of another shape" not in caught.value.message
    assert_loaded(model, before)


def test_many_missing_are_counted(read: Read) -> None:
    """A long list of names is cut, with how many more there are."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(9)))
    tensors = dict(model.state_dict())
    kept = {name: tensors[name] for name in ("0.weight", "0.bias")}
    kept["1.running_mean"] = torch.zeros(2)
    with pytest.raises(NormcheckError, match=r"16 parameters missing: .* and 10 more"):
        load(model, read(kept), None)


def test_missing_statistics_are_noted(read: Read) -> None:
    """Statistics that the file lacks stay at their initial values, which is said."""
    tensors = {k: v for k, v in state().items() if not k.startswith("1.running")}
    model = net()
    (note,) = load(model, read(tensors), None)
    assert (
        note == "2 buffers not in the file, left at initial values: 1.running_mean, 1.running_var"
    )
    assert torch.equal(model[1].running_var, torch.ones(4))


def test_nothing_is_dropped_silently(read: Read) -> None:
    """Tensors without a place in the model are counted and named."""
    tensors = state() | {"3.weight": torch.ones(2), "3.bias": torch.ones(2)}
    notes = load(net(), read(tensors), None)
    assert notes == ["2 tensors of the file without a place in the model: 3.weight, 3.bias"]


def test_count_of_an_old_file(read: Read) -> None:
    """A batch count of shape (1,), as old files have it, is taken for a scalar."""
    tensors = state() | {"1.num_batches_tracked": torch.tensor([17])}
    model = net()
    assert load(model, read(tensors), None) == []
    assert model[1].num_batches_tracked == 17
    assert model[1].num_batches_tracked.shape == ()


def test_single_values_of_another_shape(read: Read) -> None:
    """A single value of another shape is loaded, or refused in words."""
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    tensors = dict(model.state_dict()) | {"1.weight": torch.ones(1, 1)}
    with pytest.raises(NormcheckError, match="another shape"):
        load(model, read(tensors), None)


def test_lazy_layers(read: Read) -> None:
    """A factory with lazy layers takes the shapes of the file."""
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.LazyLinear(2))
    assert load(model, read(state()), None) == []
    assert model[0].weight.shape == (4, 3)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize(
    ("left_out", "kept"),
    [("embedding.weight", "head.weight"), ("head.weight", "embedding.weight")],
)
def test_ties_are_saved_once(left_out: str, kept: str, read: Read) -> None:
    """A shared parameter that the file has under one of its names is all there."""
    tensors = {k: v.clone() for k, v in Tied().state_dict().items() if k != left_out}
    model = Tied()
    notes = load(model, read(tensors), None)
    assert torch.equal(model.embedding.weight, tensors[kept])
    assert not any("buffer" in note for note in notes)


def test_state_dict_needs_a_factory(opened: Callable[[Any], Checkpoint]) -> None:
    """A state dict alone cannot run, and the message says what would make it."""
    checkpoint = opened(state())
    with pytest.raises(NormcheckError, match="no code to run") as caught:
        loading.load(checkpoint, checkpoint.models[0], Loading())
    assert "--model pkg.mod:factory" in caught.value.hint


def running(*where: str) -> Running:
    return Running(
        loading=Loading(model=f"{__name__}:net", where=where), feeding=Feeding(shapes=("3",))
    )


def attempts(checkpoint: Checkpoint, *where: str) -> list[Any]:
    anatomies = [anatomy_of(saved) for saved in checkpoint.models]
    return run_saved(checkpoint, anatomies, running(*where))


def test_place_in_the_file(opened: Callable[[Any], Checkpoint]) -> None:
    """Only the model at the chosen place runs; a place that is none is an error with the list."""
    checkpoint = opened({"net": state(1), "ema": state(2)})
    assert [saved.where for saved in checkpoint.models] == ["net", "ema"]
    both = attempts(checkpoint)
    assert all(outcome.run for outcome in both)
    first, second = attempts(checkpoint, "ema")
    assert first.run is None
    assert "names another" in first.note
    assert second.run is not None
    for everything in (("net", "ema"), ("all",)):
        assert all(outcome.run for outcome in attempts(checkpoint, *everything))
    wrong = attempts(checkpoint, "ema", "best")
    assert wrong[1].run is None
    assert wrong[0].error is not None
    assert "no model at 'best'" in wrong[0].error.message
    assert "'net', 'ema'" in wrong[0].error.hint


def test_models_that_the_factory_does_not_fit(opened: Callable[[Any], Checkpoint]) -> None:
    """Beside one that fits, others are left out with a note; where none fits, it is an error."""
    other = dict(nn.Sequential(nn.Linear(9, 9), nn.LayerNorm(9)).state_dict())
    fits, left_out = attempts(opened({"net": state(), "other": other}))
    assert fits.run is not None
    assert left_out.error is None
    assert "not run: its tensors do not fit" in left_out.note
    (alone,) = attempts(opened({"other": other}))
    assert alone.error is not None


def test_no_name_in_common(opened: Callable[[Any], Checkpoint]) -> None:
    """A factory of another model is an error with the names of both, also without parameters."""
    saved = opened({"conv.weight": torch.ones(3), "conv.bias": torch.ones(3)})
    for model, has in (
        (nn.Sequential(nn.ReLU()), "it has no tensors at all"),
        (nn.Sequential(nn.BatchNorm1d(3, affine=False)), "it has 0.running_mean, 0.running_var"),
        (nn.Sequential(nn.Linear(2, 2, bias=False)), "it has 0.weight;"),
    ):
        with pytest.raises(NormcheckError, match="no tensor of the file fits") as caught:
            load(model, saved.models[0], None)
        assert has in caught.value.message
        assert "the file has conv.weight, conv.bias" in caught.value.message
        assert "--model-args" in caught.value.hint


def test_no_name_in_common_and_what_may_help(read: Read) -> None:
    """The hint names the flags that could be meant: a prefix, another model of the file."""
    saved = read(under("module.", {"a.weight": torch.ones(3), "b.weight": torch.ones(3)}))
    with pytest.raises(NormcheckError) as caught:
        load(net(), saved, None, ("net", "ema"))
    assert "--prefix module." in caught.value.hint
    assert "--where chooses another model of the file: 'net', 'ema'" in caught.value.hint
    with pytest.raises(NormcheckError) as caught:
        load(net(), saved, "other.")
    assert "leave --prefix out" in caught.value.hint


def test_a_model_without_tensors_is_not_nothing_to_judge(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    """From the command line: exit code 2, and no word of a healthy model."""
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.ReLU())\n"
    )
    torch.save(state(), tmp_path / "model.pt")
    done = command("scan", "model.pt", "--model", "own_net.py:build", "--input-shape", "3",
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert "no tensor of the file fits the model" in done.stderr
