"""Flags that say how a model is run."""

from enum import StrEnum
from typing import Annotated

import typer


class Modes(StrEnum):
    """Modes that the modules of a file can be set to."""

    EVAL = "eval"


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
RunBoth = Annotated[
    bool,
    typer.Option(
        "--run", help="Of a model and its export: also compare outputs; without --data on noise."
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
Fixed = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Where the repaired copy goes (- is stdout); never a file that exists.",
        show_default=False,
    ),
]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Replace the file itself; it stays as FILE.bak.")
]
Force = Annotated[bool, typer.Option("--force", help="Write also what would be refused.")]
Places = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="PLACE",
        help="Which models of the file (state_dict, ema), several times, or all.",
    ),
]
Holdout = Annotated[
    str,
    typer.Option(
        metavar="DATA", help="Data that judge the result. Default: each half judges the other."
    ),
]
MostSamples = Annotated[
    int, typer.Option("--samples", metavar="N", help="Most samples of the data to use.", min=1)
]
ModesFlag = Annotated[
    Modes | None, typer.Option("--modes", help="Set all modules of a whole module to eval mode.")
]
Counts = Annotated[
    bool, typer.Option("--counts", help="Make damaged batch counts whole numbers again.")
]
Unwarm = Annotated[
    bool,
    typer.Option(
        "--unwarm",
        help="Take the rest of the initial value out of the statistics, by batch count and "
        "momentum; needs no data.",
    ),
]
MomentumFlag = Annotated[
    float | None,
    typer.Option("--momentum", metavar="M", help="For --unwarm, where the file has none."),
]
