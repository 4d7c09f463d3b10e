"""Flags that say how a model is run."""

from enum import StrEnum
from typing import Annotated

import typer


class Autocast(StrEnum):
    """Types that autocast can run in."""

    OFF = "off"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


RunModel = Annotated[
    bool,
    typer.Option(
        "--run", help="Also run the model; without --data on made-up input, mechanics only."
    ),
]
Factory = Annotated[
    str,
    typer.Option(
        metavar="PKG.MOD:NAME",
        help="Factory of the model that a state dict belongs to; runs it.",
    ),
]
FactoryArguments = Annotated[
    str,
    typer.Option(metavar="JSON", help="Its arguments: an object by name, or a list."),
]
Prefix = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What stands before the model's names: ema_model."),
]
Place = Annotated[
    str | None,
    typer.Option(metavar="PLACE", help="Which model of the file to run: state_dict, ema."),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Let the file's own code run: whatever a pickle names."),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="DATA",
        help="What to feed: .npy .npz .pt .safetensors, a folder of images, or pkg.mod:loader.",
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SHAPE",
        help="Made-up input without the batch: 3x224x224, 128:long, name=16x32; one each.",
    ),
]
BatchSize = Annotated[
    int, typer.Option(metavar="N", help="Samples a forward, as in training.", min=0)
]
Samples = Annotated[int, typer.Option(metavar="N", help="Most samples of the data to use.", min=1)]
ImageSize = Annotated[
    str, typer.Option(metavar="HxW", help="Resize images of a folder: 224 or 224x320.")
]
Mean = Annotated[
    str, typer.Option(metavar="M[,M,M]", help="Subtracted from images scaled to 0 to 1.")
]
Std = Annotated[str, typer.Option(metavar="S[,S,S]", help="Divided by, after that.")]
Device = Annotated[str, typer.Option(help="Where to run: cpu, cuda, cuda:1, mps.")]
AutocastFlag = Annotated[
    Autocast, typer.Option(help="Run under autocast, as mixed-precision models do.")
]
