"""Loops with a fault: each is caught once, at the user's line, soon, and in the report."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import normcheck
from normcheck.errors import GuardError
from normcheck.integrations.guard.modes import PATIENCE
from tests.conftest import PATIENCE as PATIENCE_OF_TESTS
from tests.conftest import ROOT
from tests.integrations import loops
from tests.integrations.loops import Net, batches, codes, epoch, loss_of, said, sgd, step, validate

HERE = __file__


def test_the_famous_bug_is_caught_when_the_second_epoch_begins() -> None:
    """eval() for validation and no train() after it: one warning, at the line of the step."""
    model = Net()
    optimizer = sgd(model)
    steps = []

    def train() -> None:
        for _ in range(3):
            for batch in batches(5):
                optimizer.zero_grad()
                loss_of(model, batch).backward()
                optimizer.step()  # here
                steps.append(1)
            model.eval()
            validate(model)

    with normcheck.guard(model, optimizer) as guard:
        (warning,) = said(train)
    source, first = inspect.getsourcelines(train)
    line = first + next(n for n, text in enumerate(source) if "# here" in text)
    assert (warning.filename, warning.lineno) == (HERE, line)
    assert "model.train()" in str(warning.message)
    (finding,) = guard.report().findings
    assert finding.rule == "NC701"
    assert finding.severity == "error"
    assert finding.layers == ("stem.1", "body.1")
    assert f"up to step {5 + PATIENCE}" in finding.detail
    assert f"test_guard_sick.py:{line}" in finding.detail


def test_a_model_that_starts_in_eval_mode_is_caught_at_its_first_steps() -> None:
    """As models of Hugging Face are loaded; the statistics are still the initial ones."""
    model = Net().eval()
    optimizer = sgd(model)
    with normcheck.guard(model, optimizer) as guard:
        assert len(said(lambda: epoch(model, optimizer, PATIENCE))) == 1
    assert "initial 0 and 1" in guard.report().findings[0].consequence


def test_a_part_in_eval_mode_within_a_wrapper_in_train_mode() -> None:
    """As in a module of a trainer's, which knows nothing of the mode of what it holds."""

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    wrapper = Wrapper()
    epoch(wrapper.net, sgd(wrapper.net), 2)  # statistics that are no more the initial ones
    wrapper.net.eval()
    optimizer = sgd(wrapper)
    with normcheck.guard(wrapper) as guard:
        warned = said(lambda: [step(wrapper.training_step, optimizer) for _ in range(5)])
    assert len(warned) == 1
    (finding,) = guard.report().findings
    assert (finding.rule, finding.severity) == ("NC701", "warning")


def test_strict_raises_with_the_fix_and_leaves_the_model_clean() -> None:
    """At the same moment."""
    model = Net().eval()
    optimizer = sgd(model)
    with (
        pytest.raises(GuardError, match="eval mode") as caught,
        normcheck.guard(model, optimizer, strict=True),
    ):
        epoch(model, optimizer, PATIENCE)
    assert "model.train()" in caught.value.hint
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_a_warning_that_is_an_error_ends_the_loop() -> None:
    """Who turns warnings into errors means it."""
    import warnings

    model = Net().eval()
    optimizer = sgd(model)
    with warnings.catch_warnings(), normcheck.guard(model, optimizer):
        warnings.simplefilter("error", normcheck.GuardWarning)
        with pytest.raises(normcheck.GuardWarning):
            epoch(model, optimizer, PATIENCE)


@pytest.mark.parametrize("gradients", [False, True])
def test_validation_in_train_mode(gradients: bool) -> None:
    """Under no_grad at once; without it, once it is known what a step usually takes."""
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(2):
            epoch(model, optimizer, 10)
            if gradients:
                for x, _ in batches(8):
                    model(x)
            else:
                validate(model)

    with normcheck.guard(model, optimizer) as guard:
        (warning,) = said(train)
    assert warning.filename == (HERE if gradients else loops.__file__)
    (finding,) = guard.report().findings
    assert finding.rule == "NC702"
    assert ("no_grad" in finding.title) is not gradients


def test_a_validation_of_one_batch_in_train_mode_again_and_again() -> None:
    """Too short to be told by its length."""
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(4):
            epoch(model, optimizer, 5)
            validate(model, 1)

    with normcheck.guard(model, optimizer) as guard:
        assert len(said(train)) == 1
    assert codes(guard.report()) == ["NC702"]


class Copying(nn.BatchNorm2d):
    """A norm whose forward hands copies of its statistics on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(
            x, self.running_mean.clone(), self.running_var.clone(), self.weight, self.bias, True
        )


@pytest.mark.parametrize("kind", ["momentum", "copies"])
def test_statistics_that_stand_still(kind: str) -> None:
    """In train mode, while weights move: caught within nine steps."""
    model = Net(momentum=0.0) if kind == "momentum" else Net()
    if kind == "copies":
        model.stem[1] = Copying(4)
    optimizer = sgd(model)
    with normcheck.guard(model, optimizer) as guard:
        assert len(said(lambda: epoch(model, optimizer, 9))) == 1
    (finding,) = guard.report().findings
    assert finding.rule == "NC703"
    assert finding.layers == (("stem.1", "body.1") if kind == "momentum" else ("stem.1",))
    assert ("momentum is 0" in finding.detail) is (kind == "momentum")


def test_batches_of_two() -> None:
    """Also where gradients of many are accumulated."""
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(4):
            for batch in batches(4, size=2):
                loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()

    with normcheck.guard(model, optimizer) as guard:
        assert len(said(train)) == 1
    (finding,) = guard.report().findings
    assert finding.rule == "NC704"
    assert "2 samples a batch" in finding.title


@pytest.mark.parametrize("at", [1, 7, 20])
def test_the_batch_that_made_statistics_nan(at: int) -> None:
    """Its number, and what was in it."""
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for number, (x, y) in enumerate(batches(24), 1):
            if number == at:
                x[2, 0, 3, 3] = torch.nan
            optimizer.zero_grad()
            loss_of(model, (x, y)).backward()
            optimizer.step()

    with normcheck.guard(model, optimizer) as guard:
        assert len(said(train)) == 1
    (finding,) = guard.report().findings
    assert finding.rule == "NC705"
    assert f"Forward {at} of the training" in finding.detail
    assert "1 NaN in 8x1x6x6" in finding.detail
    assert finding.layers[0] == "stem.1"


def test_a_nan_that_arises_within_the_model_and_ends_the_loop() -> None:
    """No step comes after it; the second norm is the first that meets it."""
    model = Net()
    optimizer = sgd(model)
    with normcheck.guard(model, optimizer) as guard:
        epoch(model, optimizer, 5)
        with torch.no_grad():
            model.body[0].bias[1] = torch.inf
        loss_of(model, next(batches(1)))
        assert len(said(guard.close)) == 1
    (finding,) = guard.report().findings
    assert "arose within it" in finding.detail or "not known" in finding.detail
    assert finding.layers == ("body.1",)
    assert "Forward 6 " in finding.detail


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_norms_are_updated_twice(reentrant: bool) -> None:
    """A note, not a fault: strict does not raise."""
    model = Net()
    optimizer = sgd(model)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return model.head(checkpoint(model.body, model.stem(x), use_reentrant=reentrant))

    model.forward = forward  # type: ignore[method-assign]
    with normcheck.guard(model, optimizer, strict=True) as guard:
        assert len(said(lambda: epoch(model, optimizer, 8))) == 1
    (finding,) = guard.report().findings
    assert (finding.rule, finding.severity) == ("NC707", "info")
    assert finding.layers == ("body.1",)
    assert guard.report().worst() == "info"


RANK = """
import sys, warnings
import torch
import normcheck
from torch import nn
from tests.integrations.loops import Net, sgd, step

rank, store, wrapper = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
model = Net()
if wrapper:
    model = nn.parallel.DistributedDataParallel(model, broadcast_buffers=wrapper == "broadcast")
torch.manual_seed(rank)
optimizer = sgd(model)
with normcheck.guard(model) as guard:
    for _ in range(16):
        step(model, optimizer)
        torch.distributed.barrier()  # so that both have written before the first looks
report = guard.report()
assert not report.errors, report.errors
print(rank, [finding.rule for finding in report.findings])
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("wrapper", "found"), [("own", ["NC706"]), ("broadcast", [])])
def test_statistics_that_differ_between_processes(
    wrapper: str, found: list[str], tmp_path: Path
) -> None:
    """Without broadcast_buffers they do, with it they do not; nobody waits for anybody."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RANK, str(rank), str(tmp_path / "s"), wrapper],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=PATIENCE_OF_TESTS) for process in processes]
    assert [out for out, _ in outputs] == [f"0 {found}\n", "1 []\n"], outputs


def test_two_causes_are_two_warnings_and_one_is_not_repeated() -> None:
    """However long the loop goes on."""
    model = Net()
    optimizer = sgd(model)

    def train() -> None:
        for _ in range(4):
            epoch(model, optimizer, 5)
            validate(model)  # in train mode
            model.eval()

    with normcheck.guard(model, optimizer) as guard:
        assert len(said(train)) == 2
    assert codes(guard.report()) == ["NC701", "NC702"]


def test_rules_can_be_left_out() -> None:
    """By the words of all commands."""
    model = Net().eval()
    optimizer = sgd(model)
    for words in ({"ignore": ["NC701"]}, {"select": "NC702"}, {"ignore": "eval-mode-steps"}):
        with normcheck.guard(model, optimizer, **words) as guard:
            assert not said(lambda: epoch(model, optimizer, 5))
        assert not guard.report().findings
