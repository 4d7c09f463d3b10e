"""Do the probes run through other people's architectures without a crash or a false accusation?

Builds models of timm, torchvision and transformers, randomly initialised and as small as their
configuration allows, and scans each alive on made-up input. Freshly made models are healthy: any
finding of warning or above is a false accusation. These packages are not needed by normcheck or
its tests; install the ones to try beside it.

    python benchmarks/zoo.py --family timm --most 150

Printed: how many models an input was found for, how many were accused and of what, how many broke.
"""

import argparse
import contextlib
import io
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

import normcheck
from normcheck.findings import Severity
from normcheck.live.run_request import Feeding, Running

_SECONDS = 60
"""For one model."""


@dataclass(frozen=True)
class Entry:
    """One architecture: how to make it, and the input that its documentation gives."""

    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[str, ...] = ()


class TooSlow(BaseException):
    """A model took longer than it is given. No Exception: a probe must not take it for its own."""


def main() -> int:
    """Try the models and print a summary; 1 where any was accused or a probe broke."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--family", choices=["timm", "torchvision", "transformers"], required=True)
    parser.add_argument("--most", type=int, default=100, help="architectures to try")
    parser.add_argument(
        "--largest", type=float, default=30, help="millions of parameters of a model that is tried"
    )
    parser.add_argument("--guess", action="store_true", help="find shapes by trial, also if known")
    parser.add_argument("--verbose", action="store_true", help="a line for every model")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    outcomes: Counter[str] = Counter()
    details: list[str] = []
    start = time.perf_counter()
    for entry in _FAMILIES[options.family](options.most):
        shapes = () if options.guess else entry.shapes
        outcome, detail = tried(entry, shapes, options.largest * 1e6)
        outcomes[outcome] += 1
        if options.verbose or outcome in ("accused", "broke"):
            details.append(f"{outcome:>12} {entry.name}: {detail}")
            print(details[-1], flush=True)
    print(
        f"{sum(outcomes.values())} architectures of {options.family} in "
        f"{time.perf_counter() - start:.0f} s: "
        + ", ".join(f"{count} {what}" for what, count in outcomes.most_common())
    )
    return 1 if outcomes["accused"] or outcomes["broke"] else 0


def tried(entry: Entry, shapes: tuple[str, ...], largest: float) -> tuple[str, str]:
    """What became of one architecture, in a word, and the details."""
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if _parameters(entry) > largest:
                return "too large", ""
            model = entry.make()
            before = {k: v.clone() for k, v in model.state_dict().items()}
            modes = [m.training for m in model.modules()]
            settings = normcheck.Examination(running=Running(feeding=Feeding(shapes=shapes)))
            report = normcheck.scan(model, settings)
    except TooSlow:
        return "too slow", ""
    except Exception as error:  # any package's, while it builds the model
        return "not built", f"{type(error).__name__}: {error}"[:100]
    finally:
        signal.alarm(0)
    after = model.state_dict()
    same = all(torch.equal(before[k].nan_to_num(), after[k].nan_to_num()) for k in before)
    if not same or modes != [m.training for m in model.modules()]:
        return "broke", "it was changed"
    if report.errors:
        message = report.errors[0].message
        return ("broke" if "bug" in report.errors[0].hint else "no input"), message[:160]
    loud = [f for f in report.findings if f.severity is not Severity.INFO]
    if loud:
        return "accused", "; ".join(f"{f.rule} {f.message} ({f.detail[:120]})" for f in loud)
    return "silent", ", ".join(sorted({f.rule for f in report.findings}))


def _parameters(entry: Entry) -> int:
    """Parameters of a model, counted without the memory where the model allows that."""
    try:
        with torch.device("meta"):
            model = entry.make()
    except Exception:  # some look at values while they are built
        model = entry.make()
    return sum(p.numel() for p in model.parameters())


def _too_slow(_signal: int, _frame: object) -> None:
    raise TooSlow


def _every(names: list[str], most: int) -> list[str]:
    """Names evenly over all of them: neighbours are variants of one architecture."""
    step = max(1, len(names) // most)
    return names[::step][:most]


def _timm(most: int) -> Iterator[Entry]:
    import timm

    for name in _every(timm.list_models(), most):

        def make(name: str = name) -> nn.Module:
            model: nn.Module = timm.create_model(name, num_classes=10)
            return model

        yield Entry(name, make)


def _torchvision(most: int) -> Iterator[Entry]:
    import torchvision

    for name in _every(torchvision.models.list_models(), most):

        def make(name: str = name) -> nn.Module:
            model: nn.Module = torchvision.models.get_model(name, weights=None)
            return model

        yield Entry(name, make)


_SMALL = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embed_dim": 32,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_attention_heads": 4, "n_head": 4, "n_heads": 4,
    "num_key_value_heads": 4, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "intermediate_size": 64, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_ff": 64,
    "vocab_size": 128, "max_position_embeddings": 64, "image_size": 32, "patch_size": 8,
}  # fmt: skip
"""Configuration by which transformers' models become small, as far as they have it."""


def _transformers(most: int) -> Iterator[Entry]:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    transformers.logging.set_verbosity_error()
    configs = sorted(MODEL_MAPPING.keys(), key=lambda config: config.__name__)
    for config in configs[:: max(1, len(configs) // most)][:most]:

        def make(config: type = config) -> nn.Module:
            found = MODEL_MAPPING[config]
            known = config().to_dict()
            small = config(**{key: value for key, value in _SMALL.items() if key in known})
            model: nn.Module = (found[0] if isinstance(found, tuple | list) else found)(small)
            return model

        yield Entry(config.__name__, make)


_FAMILIES: dict[str, Callable[[int], Iterator[Entry]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}

if __name__ == "__main__":
    sys.exit(main())
