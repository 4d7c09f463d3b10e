"""Train the look-alikes whose weights the tests load; a few seconds each.

Run from the repository root as ``python -m tests.live.probes.networks.build``.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from sample_models import build
from sample_models.data import Part, load
from sample_models.networks import DigitsNet

FOLDER = Path(__file__).parent
SAMPLES = FOLDER.parents[3] / "sample_models"


def fitted(
    model: nn.Module,
    part: Part,
    *,
    form: str = "images",
    epochs: int = 12,
    rate: float = 3e-3,
    change: Callable[[Tensor], Tensor] = lambda images: images,
) -> nn.Module:
    """Trained in whatever modes the model's modules have."""
    torch.manual_seed(0)
    images: Tensor = part.inputs[form]  # type: ignore[index]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for epoch in range(epochs):
        for chosen in build.batches(len(images), epoch):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(change(images[chosen])), part.labels[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
    return model.eval()


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of a model."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def frozen_from_scratch(part: Part) -> nn.Module:
    """Norms in eval mode from the first step on, with statistics that are not at 0 and 1."""
    model = build.fresh(DigitsNet).train()
    for norm in norms(model):
        norm.eval()
        norm.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
    return fitted(model, part)


def fine_tuned_in_eval_mode(part: Part) -> nn.Module:
    """The healthy sample, tuned on dim images with the statistics of bright ones."""
    model = DigitsNet().eval()
    model.load_state_dict(torch.load(SAMPLES / "digits-healthy.pt", weights_only=True))
    return fitted(copy.deepcopy(model), part, form="dim images", epochs=5, rate=1e-3)


def augmented(part: Part) -> nn.Module:
    """Trained on noisier images than it is used on."""
    return fitted(
        build.fresh(DigitsNet).train(),
        part,
        change=lambda images: images + 0.7 * torch.randn_like(images),
    )


NETWORKS: dict[str, Callable[[Part], nn.Module]] = {
    "frozen-from-scratch": frozen_from_scratch,
    "fine-tuned-in-eval-mode": fine_tuned_in_eval_mode,
    "augmented": augmented,
}


def main() -> None:
    """Write all of them."""
    torch.set_num_threads(1)
    part, holdout = load()
    for name, made in NETWORKS.items():
        model = made(part)
        torch.save(model.state_dict(), FOLDER / f"{name}.pt")
        form = "dim images" if name.startswith("fine") else "images"
        with torch.no_grad():
            right = model(holdout.inputs[form]).argmax(1) == holdout.labels  # type: ignore[index]
        print(f"{name}: accuracy {float(right.double().mean()):.3f}")


if __name__ == "__main__":
    main()
