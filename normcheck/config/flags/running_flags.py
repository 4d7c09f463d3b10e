"""How a model is run: which one, on what, where, and what it may take."""

from typing import Annotated

from normcheck.config.flags.flag import FileKey, Flag
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class RunFlags:
    """The model and what it is fed."""

    run: Annotated[
        bool,
        Flag("Also run the model; without --data on random input, which checks mechanics only."),
    ] = False
    model: Annotated[
        str,
        Flag(
            "Factory that builds the model of a state dict. Implies --run.",
            metavar="PKG.MOD:NAME",
            model_key=FileKey(
                "package.module:function", "none", "factory that builds the model", "factory"
            ),
        ),
    ] = ""
    model_args: Annotated[
        str,
        Flag(
            "The factory's arguments, as a JSON object or list.",
            metavar="JSON",
            model_key=FileKey("table", "{}", "keyword arguments of the factory", "arguments"),
        ),
    ] = ""
    prefix: Annotated[
        str | None, Flag("Prefix of the model's names in the file: ema_model.", metavar="TEXT")
    ] = None
    where: Annotated[
        tuple[str, ...],
        Flag(
            "Which model to use if the file holds several: state_dict, ema. May be repeated.",
            metavar="PLACE",
        ),
    ] = ()
    trust: Annotated[
        bool, Flag("Let the file's own code run: everything that its pickle names.")
    ] = False
    trust_config: Annotated[
        bool,
        Flag("Let code run that only the configuration file names: model, and data given as code."),
    ] = False
    data: Annotated[
        str,
        Flag(
            "Data to run on: .npy .npz .pt .safetensors, a folder of images, or pkg.mod:loader. "
            "Implies --run.",
            metavar="DATA",
            model_key=FileKey(
                "path or package.module:function", "none", "inputs as the model meets them", "data"
            ),
        ),
    ] = ""
    input_shape: Annotated[
        tuple[str, ...],
        Flag(
            "Shape of random input without the batch: 3x224x224, 128:long, name=16x32; one per "
            "input.",
            metavar="SHAPE",
            model_key=FileKey(
                "list of sizes", "none", "shape of one sample, where there is no data", "shape"
            ),
        ),
    ] = ()
    batch_size: Annotated[
        int | None,
        Flag(
            "Samples per batch, as in training. Default: the loader's, or 32.",
            metavar="N",
            minimum=0,
            model_key=FileKey("whole number", "none", "samples in a batch", "count"),
        ),
    ] = None
    samples: Annotated[
        int | None,
        Flag(
            "Maximum number of samples to use. Default: 256, and for scan 1,024 where these leave "
            "open what the statistics cost; for fix, 10,000.",
            metavar="N",
            minimum=1,
        ),
    ] = None
    image_size: Annotated[
        str, Flag("Resize images of a folder: 224 or 224x320.", metavar="HxW")
    ] = ""
    mean: Annotated[str, Flag("Subtracted from images scaled to 0 to 1.", metavar="M[,M,M]")] = ""
    std: Annotated[
        str, Flag("Divisor of images after the mean is subtracted.", metavar="S[,S,S]")
    ] = ""
    device: Annotated[
        str,
        Flag(
            "Where to run: cpu, cuda, cuda:1, mps.",
            metavar="DEVICE",
            model_key=FileKey(
                "text", "none", "where to run the model: cpu, cuda, cuda:1, mps", "text"
            ),
        ),
    ] = "cpu"
    autocast: Annotated[
        str,
        Flag(
            "Run under autocast, as mixed-precision models do.",
            choices=("off", "float16", "bfloat16"),
        ),
    ] = "off"
    time_limit: Annotated[
        float | None,
        Flag(
            "Stop running a file after this time; 0 for no limit. Default: 600; for fix, none.",
            metavar="SECONDS",
            minimum=0,
        ),
    ] = None


@lazy_dataclass()
class Probing:
    """What concerns runs that are only looked at, in a process of their own."""

    memory_limit: Annotated[
        str,
        Flag(
            "Stop a run that takes more memory than this (8G); 0 for no limit. Default: 3/4 of "
            "the machine's.",
            metavar="SIZE",
        ),
    ] = ""
    isolation: Annotated[
        bool,
        Flag(
            "Run models in a process of their own (default), or in this one, where a crash ends "
            "normcheck and limits do not apply.",
            off="--no-isolation",
        ),
    ] = True
