"""Train the sample models, damage some of them the way real ones get damaged, and measure all.

Run from the repository root as ``python -m sample_models.build [folder]``. Every sick file is the
end of a history that happens in practice (a lost buffer, a forgotten call, an overflow); none is
edited by hand to look sick. The script fails if a file does not behave as its entry says.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional

from sample_models.data import DIM, TWELVE_BIT, Input, Part, load
from sample_models.networks import (
    DigitsNet,
    DigitsTransformer,
    deep_digits,
    mlp_batchnorm,
    mlp_layernorm,
)

SEED = 1
OTHER_SEED = 2

BATCH = 32
# 3e-3 reaches the networks' plateau within these epochs; a training run takes a few seconds.
RATE = 3e-3
EPOCHS = 12
# Attention and decayed weights both need longer to reach the same plateau.
LONG_EPOCHS = 30
DECAY = 0.01
# Whitened features have mean 0 and variance 1, and a briefly trained layer over them has much the
# same mean and variance in every unit, so that losing its statistics costs next to nothing. A
# norm layer hides the scale of the weights before it from the loss; a strong decay shrinks them
# in a short run as far as a usual one does in a long run, and then the statistics matter.
MLP_DECAY = 1.5
# Fine-tuning on dim images: short and gentle, enough to adapt.
TUNING_EPOCHS = 3
TUNING_RATE = 1e-3

# An average over about the last hundred steps (two to three epochs).
AVERAGE_DECAY = 0.99
# The copy that holds the average is taken this late, so its statistics are real but early.
AVERAGE_START = 1

# With momentum 0.1, a share of 0.9**n of the initial 0 and 1 is left after n batches: 59% after
# 5 and 4% after 30.
FEW = 5
SOME = 30

# The side of a story that is meant to work must reach this accuracy, and the side that is meant
# to suffer must stay below it by the margin (six of the 600 held-out digits).
GOOD = 0.93
MARGIN = 0.01
# Of ten classes guessing hits one in ten; a network that learned nothing stays below this.
AT_CHANCE = 0.2

MODULE = "sample_models.networks"
MANIFEST = "manifest.json"
# Held-out digits to run the networks on. 256 are what a scan uses at most by default.
DIGITS = "digits.npz"
DIGITS_COUNT = 256

Form = Literal["state dict", "whole module", "training checkpoint", "exported program"]
Suffers = Literal["nothing", "eval", "batch", "single images", "pairs", "everything"]
StateDict = dict[str, Tensor]
Norm = nn.BatchNorm1d | nn.BatchNorm2d

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "DigitsNet": DigitsNet,
    "DigitsTransformer": DigitsTransformer,
    "deep_digits": deep_digits,
    "mlp_batchnorm": mlp_batchnorm,
    "mlp_layernorm": mlp_layernorm,
}


@dataclass(frozen=True)
class Sample:
    """One file to write, and what is to be true of it."""

    file: str
    network: str
    content: Any
    what: str
    history: str
    form: Form = "state dict"
    healthy: bool = False
    # Where the fault costs accuracy: in eval mode, under batch statistics, on images one by one,
    # two by two, or everywhere: it learned nothing.
    suffers: Suffers = "nothing"
    input: Input = "images"


def norms(model: nn.Module) -> list[Norm]:
    """Return the BatchNorm layers in the order they are defined."""
    return [layer for layer in model.modules() if isinstance(layer, Norm)]


def fresh(network: Callable[[], nn.Module], seed: int = SEED) -> nn.Module:
    """Return an untrained network, the same one for the same seed."""
    torch.manual_seed(seed)
    return network()


def batches(count: int, seed: int) -> Iterator[Tensor]:
    """Yield the row numbers of one shuffled epoch's full batches."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    yield from (rows for rows in torch.split(order, BATCH) if len(rows) == BATCH)


def train(
    model: nn.Module,
    part: Part,
    form: Input = "images",
    *,
    epochs: int = EPOCHS,
    rate: float = RATE,
    decay: float = DECAY,
    seed: int = SEED,
    training: bool = True,
    after_step: Callable[[int], None] | None = None,
) -> torch.optim.Optimizer:
    """Train the model in place, leave it in eval mode, and return the optimizer."""
    torch.manual_seed(seed)  # for dropout
    model.train(training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    inputs = part.inputs[form]
    for epoch in range(epochs):
        for rows in batches(len(inputs), seed * 1000 + epoch):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs[rows]), part.labels[rows])
            torch.autograd.backward(loss)
            optimizer.step()
            if after_step:
                after_step(epoch)
    model.eval()
    return optimizer


def trained(
    network: Callable[[], nn.Module], part: Part, form: Input = "images", *, seed: int = SEED
) -> nn.Module:
    """Return a network trained the ordinary way."""
    model = fresh(network, seed)
    train(model, part, form, seed=seed)
    return model


def trained_mlp(network: Callable[[], nn.Module], part: Part) -> nn.Module:
    """Return a perceptron trained on the whitened features."""
    model = fresh(network)
    train(model, part, "features", epochs=LONG_EPOCHS, decay=MLP_DECAY)
    return model


def forgotten(model: nn.Module) -> nn.Module:
    """Return a copy whose statistics are back at 0 and 1 with a count of 0."""
    model = copy.deepcopy(model)
    for norm in norms(model):
        norm.reset_running_stats()
    return model


@torch.no_grad()
def recounted(model: nn.Module, part: Part, count: int) -> nn.Module:
    """Return a copy whose statistics were reset and then saw only a few batches."""
    model = forgotten(model).train()
    images = part.inputs["images"]
    for _, rows in zip(range(count), batches(len(images), SEED), strict=False):
        model(images[rows])
    return model.eval()


def with_only_parameters_of(model: nn.Module, network: Callable[[], nn.Module]) -> nn.Module:
    """Return a new network that received the model's parameters and none of its buffers."""
    receiver = fresh(network)
    receiver.load_state_dict(dict(model.named_parameters()), strict=False)
    return receiver.eval()


def with_block_under_other_names(model: nn.Module) -> nn.Module:
    """Return a new network loaded leniently from a file that names the block's buffers otherwise.

    Norm layers written outside PyTorch call their buffers moving_mean and moving_var and keep no
    count. Under strict=False the keys that match nothing pass without an error.
    """
    stored = {
        name.replace("running_", "moving_") if name.startswith("block.") else name: value
        for name, value in model.state_dict().items()
        if not (name.startswith("block.") and name.endswith("num_batches_tracked"))
    }
    receiver = fresh(DigitsNet)
    receiver.load_state_dict(stored, strict=False)
    return receiver.eval()


def trained_with_zero_momentum(part: Part) -> nn.Module:
    """Return a network whose every batch was counted and weighted 0 in the statistics."""
    model = fresh(DigitsNet)
    for norm in norms(model):
        norm.momentum = 0.0
    train(model, part)
    return model


def averaged(part: Part) -> nn.Module:
    """Return a moving average of the weights whose buffers stay as they were at its start."""
    model = fresh(DigitsNet)
    average: nn.Module | None = None

    @torch.no_grad()
    def follow(epoch: int) -> None:
        nonlocal average
        if epoch < AVERAGE_START:
            return
        if average is None:
            average = copy.deepcopy(model)
        for kept, new in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - AVERAGE_DECAY)

    train(model, part, after_step=follow)
    assert average is not None
    return average.eval()


@torch.no_grad()
def after_nan_batch(model: nn.Module, part: Part) -> nn.Module:
    """Return a copy that saw, in train mode, one batch with one NaN pixel."""
    model = copy.deepcopy(model).train()
    batch = part.inputs["images"][:BATCH].clone()
    batch[0, 0, 0, 0] = torch.nan
    model(batch)
    return model.eval()


def extrapolated(base: nn.Module, part: Part) -> StateDict:
    """Return 2A - B over whole state dicts, A being B fine-tuned on dim images."""
    tuned = copy.deepcopy(base)
    train(tuned, part, "dim images", epochs=TUNING_EPOCHS, rate=TUNING_RATE)
    start = base.state_dict()
    return {name: 2 * value - start[name] for name, value in tuned.state_dict().items()}


@torch.no_grad()
def with_statistics_of(model: nn.Module, donor: nn.Module) -> nn.Module:
    """Return a copy with another model's running statistics (its own counts stay)."""
    model = copy.deepcopy(model)
    given = {name: value for name, value in donor.state_dict().items() if ".running_" in name}
    model.load_state_dict(given, strict=False)
    return model


def without_statistics(model: nn.Module, layers: tuple[str, ...]) -> StateDict:
    """Return the state dict with these layers reduced to their parameters."""
    parameters = dict(model.named_parameters())
    return {
        name: value
        for name, value in model.state_dict().items()
        if name in parameters or not name.startswith(layers)
    }


def in_train_mode(model: nn.Module) -> nn.Module:
    """Return a copy with every layer in train mode."""
    return copy.deepcopy(model).train()


def with_block_norms_in_train_mode(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode but for the residual block's two norm layers."""
    model = copy.deepcopy(model)
    assert isinstance(model, DigitsNet)
    for norm in norms(model.block):
        norm.train()
    return model


def perceptron_samples(part: Part) -> Iterator[Sample]:
    """Yield the perceptrons, healthy but for one."""
    ordinary = f"Trained for {LONG_EPOCHS} epochs in train mode on 20 whitened features"
    for network in (mlp_batchnorm, mlp_layernorm):
        model = trained_mlp(network, part)
        stem = network.__name__.replace("_", "-")
        name = "BatchNorm" if network is mlp_batchnorm else "LayerNorm"
        yield Sample(
            f"{stem}.pt",
            network.__name__,
            model.state_dict(),
            f"Nothing is wrong: a perceptron with one {name}.",
            f"{ordinary}; its state dict saved.",
            healthy=True,
            input="features",
        )
        yield Sample(
            f"{stem}-module.pt",
            network.__name__,
            model,
            f"Nothing is wrong: the perceptron with one {name} as a whole module in eval mode.",
            f"{ordinary}; switched to eval mode and saved whole.",
            form="whole module",
            healthy=True,
            input="features",
        )
        if network is mlp_batchnorm:
            yield Sample(
                "mlp-never-updated.pt",
                network.__name__,
                with_only_parameters_of(model, network).state_dict(),
                "The running statistics are still the initial 0 and 1, and no batch was counted.",
                f"{ordinary}; a new module then received only its parameters and was saved.",
                suffers="eval",
                input="features",
            )


def healthy_samples(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Sample]:
    """Yield the healthy convolutional network in every kind of file."""
    ordinary = f"Trained for {EPOCHS} epochs in train mode"
    for file, text in (
        ("digits-healthy.pt", "its state dict saved with torch.save"),
        ("digits-healthy.safetensors", "its state dict saved with safetensors"),
        ("digits-healthy-legacy.pth", "its state dict saved in PyTorch's format from before 1.6"),
    ):
        yield Sample(
            file,
            "DigitsNet",
            model.state_dict(),
            "Nothing is wrong: a convolutional network with six BatchNorm layers.",
            f"{ordinary}; {text}.",
            healthy=True,
        )
    yield Sample(
        "digits-healthy-module.pt",
        "DigitsNet",
        model,
        "Nothing is wrong: the convolutional network as a whole module in eval mode.",
        f"{ordinary}; switched to eval mode and saved whole.",
        form="whole module",
        healthy=True,
    )
    yield Sample(
        "digits-checkpoint.ckpt",
        "DigitsNet",
        {
            "epoch": EPOCHS,
            # The wrapper puts "module." before every key, as it does in most training scripts.
            "state_dict": nn.DataParallel(model).state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        'Nothing is wrong: a training checkpoint whose keys start with "module.".',
        f"{ordinary} and saved from a DataParallel wrapper with the epoch and the optimizer.",
        form="training checkpoint",
        healthy=True,
    )


def transformer_samples(part: Part) -> Iterator[Sample]:
    """Yield the transformer."""
    model = fresh(DigitsTransformer)
    train(model, part, epochs=LONG_EPOCHS)
    yield Sample(
        "digits-transformer.pt",
        "DigitsTransformer",
        model.state_dict(),
        "Nothing is wrong: a transformer whose only norm layers are LayerNorms.",
        f"Trained for {LONG_EPOCHS} epochs in train mode with dropout; its state dict saved.",
        healthy=True,
    )


def statistics_samples(model: nn.Module, part: Part) -> Iterator[Sample]:
    """Yield the networks whose running statistics were lost, or never or hardly gathered."""
    ordinary = f"Trained for {EPOCHS} epochs in train mode"

    in_eval_mode = fresh(DigitsNet)
    train(in_eval_mode, part, training=False)
    yield Sample(
        "never-updated-trained-in-eval.pt",
        "DigitsNet",
        in_eval_mode.state_dict(),
        "The running statistics are still 0 and 1 and no batch was counted, yet the weights were "
        "fitted to exactly that; recomputing the statistics would ruin the model.",
        f"Trained for {EPOCHS} epochs with model.eval() in force throughout.",
        suffers="batch",
    )
    deep = fresh(deep_digits)
    train(deep, part, training=False)
    yield Sample(
        "trained-in-eval-mode.pt",
        "deep_digits",
        deep.state_dict(),
        "model.eval() was called before every epoch: no layer ever normalised, and at this depth "
        "nothing was learned. No statistics help.",
        f"Trained for {EPOCHS} epochs with model.eval() in force throughout.",
        suffers="everything",
    )
    yield Sample(
        "statistics-lost.pt",
        "DigitsNet",
        forgotten(model).state_dict(),
        "The running statistics of every layer are back at 0 and 1 and the counts at 0.",
        f"{ordinary}; reset_running_stats() was then called on every norm layer.",
        suffers="eval",
    )
    yield Sample(
        "statistics-partly-lost.pt",
        "DigitsNet",
        with_block_under_other_names(model).state_dict(),
        "Two of six norm layers, those of the residual block, have statistics of 0 and 1 and a "
        "count of 0; the other four have real ones.",
        f"{ordinary} with another library's norm layers in the block, whose buffers are called "
        "moving_mean and moving_var; loaded with strict=False, which left those two layers' "
        "buffers as they were, and saved again.",
        suffers="eval",
    )
    yield Sample(
        "statistics-reset-count-kept.pt",
        "DigitsNet",
        trained_with_zero_momentum(part).state_dict(),
        "The running statistics are exactly 0 and 1 although hundreds of batches were counted.",
        f"{ordinary} with momentum=0.0, meant as none, which gives every batch a weight of 0.",
        suffers="eval",
    )
    for file, count in (("too-few-batches.pt", FEW), ("too-few-batches-mild.pt", SOME)):
        yield Sample(
            file,
            "DigitsNet",
            recounted(model, part, count).state_dict(),
            f"The running statistics come from only {count} batches at momentum 0.1, so "
            f"{0.9**count:.0%} of the initial 0 and 1 is still in them.",
            f"{ordinary}; the statistics were then reset and {count} batches of {BATCH} passed "
            "in train mode.",
            suffers="eval",
        )
    yield Sample(
        "missing-statistics.pt",
        "DigitsNet",
        without_statistics(model, ("depthwise.", "pointwise.", "last.")),
        "Three norm layers have their weight and bias in the file but no running statistics; "
        "loading with strict=False leaves theirs at 0 and 1.",
        f"{ordinary}; the last three layers were saved from named_parameters(), which leaves "
        "buffers out, and merged with a state dict of the rest.",
        suffers="eval",
    )


def wrong_value_samples(model: nn.Module, part: Part) -> Iterator[Sample]:
    """Yield the networks whose running statistics are there but wrong."""
    ordinary = f"Trained for {EPOCHS} epochs in train mode"
    yield Sample(
        "half-precision-damage.pt",
        "DigitsNet",
        trained(DigitsNet, part, "12-bit images").half().state_dict(),
        "In the first norm layer most running variances are infinite, so those channels come out "
        "constant.",
        f"{ordinary} on 12-bit images that nobody scaled (0 to {TWELVE_BIT:.0f}), then converted "
        "with .half(), whose largest number is 65504.",
        suffers="eval",
        input="12-bit images",
    )
    yield Sample(
        "averaged-without-buffers.pt",
        "DigitsNet",
        averaged(part).state_dict(),
        "The weights are an average over the training run, the running statistics those of a "
        "network from its beginning.",
        f"{ordinary} with a moving average of the weights (decay {AVERAGE_DECAY}) kept in a copy "
        f"made after epoch {AVERAGE_START}; the average took in parameters only, so the copy's "
        "buffers stayed as they were.",
        suffers="eval",
    )
    yield Sample(
        "nan-statistics.pt",
        "DigitsNet",
        after_nan_batch(model, part).state_dict(),
        "Every running statistic is NaN, and so is every score in eval mode; the weights are "
        "intact.",
        f"{ordinary}; then one batch with a single NaN pixel passed in train mode, and a check on "
        "the loss skipped only the optimizer's step.",
        suffers="eval",
    )
    yield Sample(
        "negative-variance.pt",
        "DigitsNet",
        extrapolated(model, part),
        "The first norm layer has negative running variances, so its output is NaN in eval mode.",
        f"{ordinary}, then fine-tuned on images at {DIM:.0%} of the contrast; task arithmetic "
        "(2A - B, tuned and original) over all tensors, running variances included.",
        suffers="eval",
        input="dim images",
    )
    yield Sample(
        "foreign-statistics.pt",
        "DigitsNet",
        with_statistics_of(model, trained(DigitsNet, part, seed=OTHER_SEED)).state_dict(),
        "The running statistics belong to another network of the same shape; nothing in the "
        "values alone looks wrong.",
        f"{ordinary}; the running means and variances were then loaded from a second network, "
        "trained with another seed.",
        suffers="eval",
    )


def mode_samples(model: nn.Module, part: Part) -> Iterator[Sample]:
    """Yield the whole modules that would use batch statistics when run as they are."""
    ordinary = f"Trained for {EPOCHS} epochs in train mode"
    yield Sample(
        "saved-in-train-mode-module.pt",
        "DigitsNet",
        in_train_mode(model),
        "The whole module was saved in train mode: run as it is, its answers depend on the other "
        "images in the batch and every call alters its statistics.",
        f"{ordinary} and saved whole without a call to eval().",
        form="whole module",
    )
    yield Sample(
        "mixed-modes-module.pt",
        "DigitsNet",
        with_block_norms_in_train_mode(model),
        "The module is in eval mode except for the residual block's two norm layers, which still "
        "use and update batch statistics.",
        f"{ordinary} and switched to eval mode; the block's norm layers were then put back into "
        "train mode to refresh their statistics, and stayed there.",
        form="whole module",
    )
    stateless = fresh(lambda: DigitsNet(track_running_stats=False))
    train(stateless, part)
    yield Sample(
        "no-running-stats-module.pt",
        "DigitsNet",
        stateless,
        "The norm layers keep no running statistics and normalise by the batch even in eval mode, "
        "so the answer for an image depends on the others in its batch.",
        f"{ordinary} with track_running_stats=False, switched to eval mode and saved whole.",
        form="whole module",
        suffers="single images",
    )


def exported(model: nn.Module) -> ExportedProgram:
    """Export a model in the mode in which it is, for any number of images.

    Where each operator was written is left out: that names files of this machine.
    """
    images = torch.zeros(4, 1, 8, 8)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def exported_samples(model: nn.Module) -> Iterator[Sample]:
    """Yield exports of one model, in eval mode and in the mode that training left it in."""
    ordinary = f"Trained for {EPOCHS} epochs in train mode"
    yield Sample(
        "digits-healthy.pt2",
        "DigitsNet",
        exported(copy.deepcopy(model).eval()),
        "Nothing is wrong: the convolutional network, exported in eval mode.",
        f"{ordinary}, switched to eval mode and exported with torch.export.",
        form="exported program",
        healthy=True,
    )
    yield Sample(
        "exported-in-train-mode.pt2",
        "DigitsNet",
        exported(in_train_mode(model)),
        "The export computes as in training, and no call of eval() changes it: its answers depend "
        "on the other images in the batch.",
        f"{ordinary} and exported with torch.export without a call to eval().",
        form="exported program",
        suffers="pairs",
    )


def samples(part: Part) -> list[Sample]:
    """Return every sample, sorted by file name."""
    model = fresh(DigitsNet)
    optimizer = train(model, part)
    everything = [
        *perceptron_samples(part),
        *healthy_samples(model, optimizer),
        *transformer_samples(part),
        *statistics_samples(model, part),
        *wrong_value_samples(model, part),
        *mode_samples(model, part),
        *exported_samples(model),
    ]
    return sorted(everything, key=lambda sample: sample.file)


def write(sample: Sample, path: Path) -> None:
    """Write the sample's file in the format its suffix stands for."""
    if path.suffix == ".safetensors":
        save_file(sample.content, path)
    elif path.suffix == ".pt2":
        torch.export.save(sample.content, path)
    elif path.suffix == ".pth":
        # The old format names storages by their memory address, so no two runs write the same
        # bytes. A file that already holds these tensors is kept, lest a rebuild change it.
        if not (path.exists() and same(read(path), sample.content)):
            torch.save(sample.content, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(sample.content, path)


def same(left: StateDict, right: StateDict) -> bool:
    """Tell whether two state dicts hold the same tensors."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name])
        for name in left
    )


def read(path: Path) -> Any:
    """Load a file that this script wrote."""
    if path.suffix == ".safetensors":
        return load_file(path)
    # Whole modules need the full unpickler, which runs whatever a file says: only for own files.
    return torch.load(path, weights_only=False)


def restored(sample: Sample, path: Path) -> nn.Module:
    """Return the network as the file on disk gives it back, in eval mode."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    content = read(path)
    if isinstance(content, nn.Module):
        return content.eval()
    if sample.form == "training checkpoint":
        content = {
            name.removeprefix("module."): value for name, value in content["state_dict"].items()
        }
    model = NETWORKS[sample.network]()
    # Not strict, because one file lacks buffers; a key that fits nowhere would still be a mistake.
    odd = model.load_state_dict(content, strict=False)
    assert not odd.unexpected_keys, odd
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, *, size: int | None = None) -> float:
    """Return the share of right answers, on one batch or on batches of this size.

    A row of scores that is not finite is a wrong answer: which class argmax would pick from NaNs
    says nothing.
    """
    scores = torch.cat([model(batch) for batch in torch.split(inputs, size or len(inputs))])
    right = (scores.argmax(dim=1) == labels) & scores.isfinite().all(dim=1)
    return round(right.double().mean().item(), 3)


def under_batch_statistics(model: nn.Module) -> nn.Module:
    """Return a copy whose BatchNorm layers alone are in train mode."""
    model = copy.deepcopy(model).eval()
    for norm in norms(model):
        norm.train()
    return model


def measured(sample: Sample, path: Path, holdout: Part) -> dict[str, Any]:
    """Return the sample's manifest entry, after checking that its story holds."""
    model = restored(sample, path)
    inputs, labels = holdout.inputs[sample.input], holdout.labels
    by_eval = accuracy(model, inputs, labels)
    by_batch = accuracy(under_batch_statistics(model), inputs, labels) if norms(model) else None
    sides = {"eval": by_eval, "batch": by_eval if by_batch is None else by_batch}
    if sample.suffers == "single images":
        sides["single images"] = accuracy(model, inputs, labels, size=1)
    if sample.suffers == "pairs":
        sides["pairs"] = accuracy(model, inputs, labels, size=2)

    best = max(sides.values())
    for side, value in sides.items():
        if sample.suffers == "everything":
            holds = value < AT_CHANCE
        elif side == sample.suffers:
            holds = value < best - MARGIN
        else:
            holds = value >= max(GOOD, best - MARGIN)
        if not holds:
            raise SystemExit(f"{sample.file}: {side} accuracy {value} does not fit its story")

    return {
        "file": sample.file,
        "network": f"{MODULE}:{sample.network}",
        "form": sample.form,
        "input": sample.input,
        "healthy": sample.healthy,
        "what": sample.what,
        "history": sample.history,
        "accuracy_eval": by_eval,
        "accuracy_batch": by_batch,
    }


def main() -> None:
    """Build everything into a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m sample_models.build", description="Train and write the sample models."
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(__file__).parent,
        help="where to write the files (default: the folder of this script)",
    )
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)

    # One thread, because the order of a sum, and with it the last bits of a weight, depends on
    # how many there are.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    start = time.perf_counter()
    part, holdout = load()
    rows = slice(DIGITS_COUNT)
    np.savez(
        folder / DIGITS,
        images=holdout.inputs["images"][rows].numpy(),
        labels=holdout.labels[rows].numpy(),
    )
    entries = []
    for sample in samples(part):
        path = folder / sample.file
        write(sample, path)
        entry = measured(sample, path, holdout)
        entries.append(entry)
        shown = "    -" if entry["accuracy_batch"] is None else f"{entry['accuracy_batch']:.3f}"
        size = path.stat().st_size / 1000
        print(f"{sample.file:36}{size:6.0f} kB  eval {entry['accuracy_eval']:.3f}  batch {shown}")
    text = json.dumps(entries, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    total = sum((folder / entry["file"]).stat().st_size for entry in entries)
    took = time.perf_counter() - start
    print(f"{len(entries)} files, {total / 1e6:.2f} MB, {took:.0f} s")


if __name__ == "__main__":
    main()
