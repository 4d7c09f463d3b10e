"""Flags for what reading a file, or running a model, may take."""

from typing import Annotated

import typer

ReadLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=N",
        help="Raise what reading one file may take, as an error names it: memory-bytes=8G.",
    ),
]
WeightsBudget = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Weights to read per model, to see whether statistics belong to them. Default: "
        "256M, of remote files 64M.",
    ),
]
TimeLimit = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Stop the run of a file after that; 0 for never.", min=0),
]
MemoryLimit = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Stop a run that takes more, as 8G; 0 for no limit. Default: 3/4 of the machine's.",
    ),
]
NoIsolation = Annotated[
    bool,
    typer.Option(
        "--no-isolation", help="Run models in this process: a crash ends it, limits do not hold."
    ),
]
