"""Loops without fault, in all the ways in which people train: a guard says nothing."""

import copy
import functools
import io
import pickle
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

import normcheck
from normcheck.errors import UsageError
from tests.integrations.loops import Net, batches, codes, epoch, loss_of, said, sgd, step, validate

LOOPS: dict[str, Callable[[], tuple[nn.Module, Callable[[], object]]]] = {}


def loop(make: Callable[[], tuple[nn.Module, Callable[[], object]]]) -> Callable[[], object]:
    LOOPS[make.__name__.replace("_", " ")] = make
    return make


@loop
def validation_in_eval_mode():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(3):
            model.train()
            epoch(model, optimizer)
            model.eval()
            validate(model)

    return model, train


@loop
def gradient_accumulation_with_a_rest():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(5):
            for number, batch in enumerate(batches(11)):
                loss_of(model, batch).backward()
                if number % 4 == 3:
                    optimizer.step()
                    optimizer.zero_grad()

    return model, train


@loop
def frozen_backbone_in_eval_mode():
    model = Net()
    model.stem.requires_grad_(False).eval()
    optimizer = sgd(model)
    return model, lambda: epoch(model, optimizer, 20)


@loop
def frozen_backbone_whose_norms_are_in_train_mode_is_trained_elsewhere():
    model = Net()
    model.stem.requires_grad_(False)
    optimizer = sgd(model)
    return model, lambda: epoch(model, optimizer, 20)


@loop
def norms_alone_in_eval_mode():
    """``norm_eval=True`` of detection code: γ and β learn, statistics stay."""
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        epoch(model, optimizer, 12)

    return model, train


@loop
def weights_averaged_and_their_statistics_estimated():
    model = Net()
    optimizer = sgd(model)
    averaged = AveragedModel(model)

    def train() -> None:
        for _ in range(3):
            epoch(model, optimizer)
            averaged.update_parameters(model)
            update_bn([x for x, _ in batches(5)], averaged)
            update_bn([x for x, _ in batches(5)], model)

    return model, train


@loop
def exponential_average_that_validates():
    model = Net()
    optimizer = sgd(model)
    average = copy.deepcopy(model).eval()

    def train() -> None:
        for _ in range(3):
            epoch(model, optimizer)
            with torch.no_grad():
                for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
                    mine.lerp_(theirs, 0.1)
            validate(average)

    return model, train


@loop
def checkpointing_without_norms():
    model = Net()
    optimizer = sgd(model)
    model.forward = lambda x: checkpoint(model.head, model.body(model.stem(x)), use_reentrant=False)
    return model, lambda: epoch(model, optimizer, 20)


@loop
def whole_models_checkpointed_reentrantly():
    model = Net()
    optimizer = sgd(model)

    def several(x: torch.Tensor) -> torch.Tensor:
        views = [checkpoint(model, x.requires_grad_(), use_reentrant=True) for _ in range(4)]
        return sum(views)  # type: ignore[return-value]

    return model, lambda: [step(several, optimizer) for _ in range(10)]


@loop
def checkpoints_saved_and_loaded():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(3):
            epoch(model, optimizer)
            file = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            model.load_state_dict(torch.load(file)["model"])

    return model, train


@loop
def two_networks_against_each_other():
    model = nn.ModuleDict({"generator": Net(), "critic": Net()})
    ours, theirs = sgd(model["generator"]), sgd(model["critic"])

    def train() -> None:
        for _ in range(8):
            for _ in range(3):
                with torch.no_grad():
                    model["generator"](next(batches(1))[0])
                step(model["critic"], theirs)
            step(model["generator"], ours)

    return model, train


@loop
def pseudo_labels_in_every_step():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(20):
            with torch.no_grad():
                model(next(batches(1))[0])
            step(model, optimizer)

    return model, train


@loop
def a_teacher_in_train_mode_without_gradients():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student, self.teacher = Net(), Net().requires_grad_(False)

    model = Both()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(8):
            with torch.no_grad():
                for x, _ in batches(4):
                    model.teacher(x)
            step(model.student, optimizer)

    return model, train


@loop
def attacks_in_eval_mode_before_each_step():
    """Adversarial training: gradients of the input in eval mode, the step in train mode."""
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for x, y in batches(10):
            model.eval()
            attacked = x.clone().requires_grad_()
            loss_of(model, (attacked, y)).backward()
            model.train()
            optimizer.zero_grad()
            loss_of(model, (attacked.detach(), y)).backward()
            optimizer.step()

    return model, train


@loop
def unrolled_a_changing_number_of_times():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for number in range(20):
            losses = [loss_of(model, batch) for batch in batches(1 + 5 * number % 13)]
            optimizer.zero_grad()
            sum(losses).backward()  # type: ignore[union-attr]
            optimizer.step()

    return model, train


@loop
def a_small_batch_at_the_end_of_each_epoch():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(8):
            epoch(model, optimizer, 2)
            step(model, optimizer, size=2)

    return model, train


@loop
def a_trial_forward_before_training():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        validate(model, 5)  # a sanity check, a summary of shapes
        epoch(model, optimizer, 12)

    return model, train


@loop
def instance_norms_with_statistics_and_one_sample():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        nn.Flatten(), nn.Linear(48, 3),
    )  # fmt: skip
    optimizer = sgd(model)
    return model, lambda: [step(model, optimizer, size=1) for _ in range(10)]


@loop
def lazy_modules_of_which_some_never_run():
    model = nn.ModuleDict(
        {
            "used": nn.Sequential(
                nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3)
            ),
            "unused": nn.Sequential(nn.LazyBatchNorm2d()),
        }
    )  # fmt: skip
    optimizer = sgd(model["used"])
    return model, lambda: [step(model["used"], optimizer) for _ in range(20)]


@loop
def layer_norms_only():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8), nn.Linear(8, 3)).eval()
    optimizer = sgd(model)
    return model, lambda: epoch(model, optimizer, 5)


@loop
def the_same_norm_called_several_times_a_forward():
    model = Net()
    model.stem = nn.Sequential(model.stem[0], *[model.stem[1]] * 5, nn.ReLU())
    optimizer = sgd(model)
    return model, lambda: epoch(model, optimizer, 12)


@loop
def compiled():
    model = Net()
    optimizer = sgd(model)
    fast = torch.compile(model, backend="eager")
    return model, lambda: [step(fast, optimizer) for _ in range(6)]


@loop
def a_scaler_that_skips_steps():
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for number, batch in enumerate(batches(30)):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            if not 12 <= number < 20:
                optimizer.step()

    return model, train


@pytest.mark.parametrize("name", LOOPS)
def test_healthy_loops_are_left_alone(name: str) -> None:
    """No warning, no finding, no failure of the guard."""
    torch.manual_seed(0)
    model, train = LOOPS[name]()
    with normcheck.guard(model) as guard:
        warned = said(train)
    report = guard.report()
    assert not warned, str(warned[0].message)
    assert codes(report) == []
    assert not report.errors


def test_what_is_declared_is_silent() -> None:
    """A part by its path or by a pattern; the report says so."""
    for words in (["stem", "body"], ["*.1"], "*"):
        model = Net().eval()
        optimizer = sgd(model)
        with normcheck.guard(model, optimizer, frozen=words) as guard:
            assert not said(lambda model=model, optimizer=optimizer: epoch(model, optimizer, 5))
        (entry,) = guard.report().models
        assert {layer.why for layer in entry.layers} == {"frozen on purpose"}


def test_paused_is_silent() -> None:
    """Forwards in train mode that are meant."""
    model = Net()
    optimizer = sgd(model)
    with normcheck.guard(model, optimizer) as guard:
        epoch(model, optimizer)
        with guard.paused():
            assert not said(lambda: validate(model))
        epoch(model, optimizer)
    assert not guard.report().findings


def test_steps_of_other_models_do_not_count() -> None:
    """A second model with its own optimizer in the same loop."""
    model, other = Net().eval(), Net()
    with normcheck.guard(model) as guard:
        assert not said(lambda: epoch(other, sgd(other), 5))
    report = guard.report()
    assert {entry.reason for entry in report.skipped} == {"no step of an optimizer was seen"}


def test_the_model_is_as_it_was() -> None:
    """No hook, no gradient, no bit of it differs; training goes the same way with a guard."""
    runs = []
    for guarded in (False, True):
        torch.manual_seed(3)
        model = Net()
        optimizer = sgd(model)
        if guarded:
            with normcheck.guard(model, optimizer) as guard:
                epoch(model, optimizer, 10)
            guard.close()
        else:
            epoch(model, optimizer, 10)
        runs.append(model.state_dict())
        assert not any(
            m._forward_pre_hooks or m._forward_hooks or m._forward_hooks_always_called
            for m in model.modules()
        )
        assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(runs[0].values(), runs[1].values(), strict=True))


def test_copies_and_pickles_have_no_guard() -> None:
    """A deep copy and a saved whole model run without it, and name nothing of normcheck."""
    model = Net()
    with normcheck.guard(model) as guard:
        copied = copy.deepcopy(model)
        raw = pickle.dumps(model)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        x = next(batches(1))[0]
        for other in (copied, pickle.loads(raw), torch.load(file, weights_only=False)):
            other(x)
            assert not other._forward_pre_hooks or set(other._forward_pre_hooks.values())
        assert guard.report().models[0].notes[0].endswith("0 forwards")
    assert b"normcheck" not in raw
    hooks = list(copied._forward_pre_hooks.values())
    assert all(isinstance(h, functools.partial) and h.func is sys.audit for h in hooks)


def test_an_error_of_the_loop_is_not_replaced() -> None:
    """The guard closes, and says nothing over it."""
    model = Net()

    def train() -> None:
        step(model, sgd(model))
        model.stem[1].running_mean.fill_(torch.nan)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), normcheck.guard(model, strict=True):
        train()
    assert not model._forward_pre_hooks


def test_a_fault_of_the_guard_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks no more, and its report says why."""
    from normcheck.integrations.guard.modes import EvalModeSteps

    def broken(*_words: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(EvalModeSteps, "step", broken)
    model = Net()
    optimizer = sgd(model)
    with normcheck.guard(model, optimizer, strict=True) as guard:
        epoch(model, optimizer)
    (failure,) = guard.report().errors
    assert "unforeseen" in failure.message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"model": "model.pt"}, "guard watches an nn.Module, not str"),
        ({"model": Net(), "frozen": ["backbone"]}, "no norm"),
        ({"model": Net(), "select": ["NC9"]}, "NC9"),
    ],
)
def test_what_cannot_be_guarded_is_an_error(words: dict, said: str) -> None:
    """With what to give instead."""
    with pytest.raises(UsageError, match=said) as caught:
        normcheck.guard(**words)
    assert caught.value.hint
