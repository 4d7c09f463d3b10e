"""What `diff` says of exports beside their sources: whom it accuses wrongly, and what it misses.

    python benchmarks/export_pairs.py [NAME ...] [--every N] [--seed N] [--exporters NAME ...]
        [--faults NAME ...] [--kept FOLDER] [--verbose]

Exports the architectures of the tests by every exporter that is installed, and compares each
export with the module and with the state dict that it was made from. Then twelve faults
(``pair_faults.py``), one at a time. It prints
- healthy pairs that get a finding at or above a warning;
- norms that became "not found" there, which is no accusation and no proof;
- of each fault how many pairs show it, and in how many a finding names the layer.

Exports are kept in a folder where one is given, so that a second run takes seconds; of another
seed, which draws other weights and data, in one of its own. All of it takes hours on one core;
every third architecture is a look.
"""

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.pair_faults import (  # noqa: E402
    EXPORT_FAULTS,
    NOT_IN_A_STATE_DICT,
    SOURCE_FAULTS,
    Layers,
    Named,
    layers_of,
)
from normcheck.compare.exports.export_match import Fate  # noqa: E402
from normcheck.errors import NormcheckError  # noqa: E402
from normcheck.findings import Finding, Severity  # noqa: E402
from normcheck.runs.diff import diff  # noqa: E402
from tests.architectures import ARCHITECTURES, EXAMPLE_INPUTS  # noqa: E402

# Architectures of the tests that exporters take, of all families.
NAMES = (
    "resnet_basic", "resnet_bottleneck", "resnet_groupnorm", "preact_resnet", "vgg_bn", "densenet",
    "inception_v3", "repvgg", "convnext", "ibn_net", "yolo_v5", "yolo_v3_darknet", "fcos_head",
    "mobilenet_v2", "mobilenet_v3", "efficientnet", "shufflenet_v2", "arcface_iresnet", "unet",
    "deeplab_v3", "nnunet_3d", "resnet_3d", "pointnet", "dcgan_generator", "dcgan_discriminator",
    "cyclegan_instance_norm", "pix2pix_unet", "vae", "bert", "gpt2", "llama", "qwen3", "vit",
    "swin", "torch_encoder", "conformer", "tacotron_postnet", "xvector_tdnn", "crnn", "mlp_mixer",
    "diffusion_unet", "lstm_layernorm",
)  # fmt: skip

Inputs = tuple[torch.Tensor, ...]
Exporter = Callable[[nn.Module, Inputs, Path], None]


def _traced(model: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.jit.save(torch.jit.trace(model, inputs, check_trace=False), path)


def _scripted(model: nn.Module, _: Inputs, path: Path) -> None:
    torch.jit.save(torch.jit.script(model), path)


def _frozen(model: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.trace(model.eval(), inputs)), path)


def _program(model: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.export.save(torch.export.export(model, inputs), path)


def _core_aten(model: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.export.save(torch.export.export(model, inputs).run_decompositions(), path)


def _old_onnx(model: nn.Module, inputs: Inputs, path: Path) -> None:
    mode = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(model, inputs, str(path), dynamo=False, training=mode)


def _new_onnx(model: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.onnx.export(model, inputs, str(path), dynamo=True, verbose=False, external_data=False)


def _onnxruntime(level: str) -> Exporter:
    """What ONNX Runtime writes when it optimises a file once and for all."""

    def export(model: nn.Module, inputs: Inputs, path: Path) -> None:
        import onnxruntime

        plain = path.with_suffix(".plain.onnx")
        _old_onnx(model, inputs, plain)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
        plain.unlink()

    return export


def _fused(model: nn.Module, _: Inputs, path: Path) -> None:
    from torch.fx.experimental.optimization import fuse

    count = sum(name.endswith("running_var") for name in model.state_dict())
    fused = fuse(model).state_dict()
    if sum(name.endswith("running_var") for name in fused) == count:
        raise ValueError("nothing was fused: two checkpoints of one model")
    torch.save(fused, path)


EXPORTERS: dict[str, tuple[str, Exporter]] = {
    "traced": (".pt", _traced),
    "scripted": (".pt", _scripted),
    "frozen": (".pt", _frozen),
    "torch.export": (".pt2", _program),
    "core-aten": (".pt2", _core_aten),
    "onnx-torchscript": (".onnx", _old_onnx),
    "onnx-dynamo": (".onnx", _new_onnx),
    "ort-basic": (".onnx", _onnxruntime("ORT_ENABLE_BASIC")),
    "ort-extended": (".onnx", _onnxruntime("ORT_ENABLE_EXTENDED")),
    "fx-fused": (".pt", _fused),
}


UNDECIDABLE = frozenset(
    {
        # Freezing leaves no names of modules, a state dict holds no functions.
        ("activation replaced", "frozen"),
        ("activation replaced", "fx-fused"),
        # One operator for a convolution and its activation, under the convolution's name.
        ("activation replaced", "ort-extended"),
        ("grouping changed", "fx-fused"),
        # It writes of train mode what eval mode computes.
        ("train mode", "onnx-dynamo"),
    }
)
"""What no comparison of these files can find; data can."""


@dataclass
class Tally:
    """What was seen."""

    pairs: int = 0
    accused: list[str] = field(default_factory=list)
    not_found: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    missed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def built(name: str, seed: int) -> tuple[nn.Module, Inputs, Layers]:
    """A model in eval mode whose numbers are those of no fresh one, and its inputs."""
    torch.manual_seed(seed)
    model, inputs = ARCHITECTURES[name](), EXAMPLE_INPUTS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.1 * parameter.std() if parameter.numel() > 1 else torch.tensor(0.0)
            parameter.add_((spread + 0.05) * torch.randn_like(parameter))
        model.train()
        for _ in range(30):
            model(*(x + torch.rand(()) if x.is_floating_point() else x for x in inputs))
        model.eval()
        layers = layers_of(model, lambda: model(*inputs))
    return model, inputs, layers


def exported(
    name: str, fault: str, exporter: str, folder: Path, tally: Tally, seed: int
) -> Path | None:
    """One export; None where the exporter cannot take the model, or the fault is not in it."""
    suffix, export = EXPORTERS[exporter]
    path = folder / f"{name}-{fault.replace(' ', '-') or 'healthy'}-{exporter}{suffix}"
    if path.exists():
        return path
    if exporter == "frozen" and fault == "train mode":
        return None  # freezing puts a model into eval mode
    if exporter == "fx-fused" and fault == "train mode":
        return None
    refused = path.with_suffix(".refused")
    if refused.exists():
        return None
    model, inputs, layers = built(name, seed)
    if fault and EXPORT_FAULTS[fault](model, layers) is None:
        return None
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with quiet[0], quiet[1], torch.no_grad():
            export(model, inputs, path)
    except Exception as error:  # an exporter may raise anything
        path.unlink(missing_ok=True)
        refused.write_text(f"{type(error).__name__}: {error!s:.300}")
        if not fault:
            tally.failed[f"{name} {exporter}"] = type(error).__name__
        return None
    return path


def accusations(source: Path, export: Path) -> tuple[list[Finding], Counter[Fate]]:
    """Findings at or above a warning, and what became of the norms."""
    result = diff([source, export])
    if result.report.errors:
        raise RuntimeError(result.report.errors[0].message)
    fates: Counter[Fate] = Counter()
    for comparison in result.comparisons:
        if comparison.match is not None:
            fates.update(norm.fate for norm in comparison.match.norms)
    return [f for f in result.findings if f.severity.rank >= Severity.WARNING.rank], fates


def sources(name: str, folder: Path, seed: int) -> Iterator[tuple[str, str, Path, Named]]:
    """The healthy model and those with a fault, as a module and as a state dict."""
    for fault, touch in {"": None, **SOURCE_FAULTS}.items():
        model, _, layers = built(name, seed)
        with torch.no_grad():
            named = touch(model, layers) if touch is not None else ()
        if named is None:
            continue
        for form in ("module", "state"):
            if form == "state" and fault in NOT_IN_A_STATE_DICT:
                continue
            path = folder / f"{name}-{fault.replace(' ', '-') or 'healthy'}-{form}.pth"
            try:
                torch.save(model if form == "module" else model.state_dict(), path)
            except Exception as error:  # a class of the tests that cannot be saved
                print(f"{name} {form}: not saved: {error}", file=sys.stderr)
                continue
            yield fault, form, path, named


def compared(name: str, given: argparse.Namespace, folder: Path, tally: Tally) -> None:
    """One architecture by all exporters, healthy and with every fault."""
    seed, wanted = given.seed, ("", *given.faults)
    files = [found for found in sources(name, folder, seed) if found[0] in wanted]
    healthy = {form: path for fault, form, path, _ in files if not fault}
    for exporter in given.exporters:
        pairs = []
        if (export := exported(name, "", exporter, folder, tally, seed)) is not None:
            pairs += [(fault, form, path, export, named) for fault, form, path, named in files]
        for fault in EXPORT_FAULTS.keys() & set(wanted):
            if (export := exported(name, fault, exporter, folder, tally, seed)) is not None:
                model, _, layers = built(name, seed)
                named = EXPORT_FAULTS[fault](model, layers) or ()
                pairs += [(fault, form, path, export, named) for form, path in healthy.items()]
        for fault, form, path, export, named in pairs:
            if (fault, exporter) in UNDECIDABLE:
                continue
            label = f"{name} {exporter} {form} {fault or 'healthy'}"
            try:
                found, fates = accusations(path, export)
            except (NormcheckError, RuntimeError) as error:
                tally.missed.append(f"{label}: {error}")
                tally.shown[fault].append(False)
                continue
            except Exception:  # a crash is counted, and the rest goes on
                tally.missed.append(f"{label}: {traceback.format_exc()}")
                tally.shown[fault].append(False)
                continue
            said = "; ".join(f"{f.rule} {f.title} [{f.detail:.160}]" for f in found)
            if not fault:
                tally.pairs += 1
                tally.kept[exporter] += fates.total() - fates[Fate.NOT_FOUND]
                tally.not_found[exporter] += fates[Fate.NOT_FOUND]
                if fates[Fate.NOT_FOUND] and given.verbose:
                    print(f"not found: {label}: {fates[Fate.NOT_FOUND]} of {fates.total()}")
                if found:
                    tally.accused.append(f"{label}: {said}")
                continue
            layers = {layer for finding in found for layer in finding.layers}
            hit = set(named) <= layers if fault == "statistics lost" else bool(set(named) & layers)
            tally.shown[fault].append(hit)
            if not hit:
                tally.missed.append(f"{label}: of {named[:3]} said: {said or 'nothing'}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--exporters", nargs="*", default=list(EXPORTERS))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="architectures: each Nth")
    parser.add_argument("--seed", type=int, default=11, help="of weights and data")
    known = [*SOURCE_FAULTS, *EXPORT_FAULTS]
    parser.add_argument("--faults", nargs="*", default=known, choices=known, metavar="NAME")
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    tally = Tally()
    names = given.names or list(NAMES[:: given.every])
    with tempfile.TemporaryDirectory() as made:
        folder = (given.kept or Path(made)) / str(given.seed)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            compared(name, given, folder, tally)
    print(f"{len(names)} architectures, {len(given.exporters)} exporters, {tally.pairs} pairs")
    print(f"accused though nothing is wrong: {len(tally.accused)} of {tally.pairs}")
    for exporter in given.exporters:
        lost, kept = tally.not_found[exporter], tally.kept[exporter]
        refused = sum(key.endswith(f" {exporter}") for key in tally.failed)
        print(f"  {exporter}: {kept} norms proven, {lost} not found, {refused} models refused")
    for fault, hits in sorted(tally.shown.items()):
        share = 100 * sum(hits) / len(hits)
        print(f"{fault}: found and named in {sum(hits)} of {len(hits)} pairs ({share:.1f} %)")
    hits = [hit for each in tally.shown.values() for hit in each]
    if hits:
        print(f"all faults: {sum(hits)} of {len(hits)} ({100 * sum(hits) / len(hits):.1f} %)")
    for line in tally.accused:
        print("ACCUSED", line)
    if given.verbose:
        for line in tally.missed:
            print("MISSED", line)


if __name__ == "__main__":
    main()
