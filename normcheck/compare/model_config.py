"""``config.json`` beside the weights of a Hugging Face model: what goes with them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from normcheck.compare.hyperparameters import HyperparameterChange, Hyperparameters
from normcheck.errors import NormcheckError
from normcheck.formats.bounded_json import read_json
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.kinds import Family
from normcheck.saved.graph import Setting
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.source import FileSource

_FILE = "config.json"
_WEIGHTS = ("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model")
"""How the files of such a model begin; any other file beside a config.json is no part of it."""
_EPS_OF: Mapping[str, tuple[Family, ...]] = {
    "rms_norm_eps": (Family.RMS,),
    "layer_norm_eps": (Family.LAYER, Family.PER_SAMPLE),
    "layer_norm_epsilon": (Family.LAYER, Family.PER_SAMPLE),
    "layernorm_epsilon": (Family.LAYER, Family.PER_SAMPLE, Family.RMS),
    "norm_epsilon": (Family.LAYER, Family.PER_SAMPLE, Family.RMS),
    "norm_eps": (Family.LAYER, Family.PER_SAMPLE, Family.RMS, Family.GROUP),
    "batch_norm_eps": (Family.BATCH,),
}
"""Keys that give an eps, and the norms that take it."""
_OTHERS = frozenset(
    {
        "hidden_act", "hidden_activation", "activation_function", "act_fn", "afn",
        "norm_num_groups", "batch_norm_momentum", "normalize_before", "do_layer_norm_before",
        "pre_norm", "apply_residual_connection_post_layernorm", "norm_type", "normalization_type",
        "scale_embedding", "parallel_attn", "layer_norm_type", "norm_elementwise_affine",
    }
)  # fmt: skip
"""Further keys on which the function depends that norms and activations compute."""
_ACTIVATIONS: Mapping[str, str] = {
    "silu": "SiLU", "swish": "SiLU", "relu": "ReLU", "gelu": "GELU", "gelu_new": "GELU",
    "gelu_fast": "GELU", "gelu_python": "GELU", "gelu_pytorch_tanh": "GELU", "mish": "Mish",
    "gelu_accurate": "GELU", "tanh": "tanh", "sigmoid": "sigmoid", "hardswish": "hardswish",
}  # fmt: skip
"""Names of activations in a configuration, by those that graphs and modules have for them."""
_HIDDEN = ("hidden_act", "hidden_activation", "activation_function", "act_fn", "afn")
_ITS_MODULES = frozenset(
    {"act", "act_fn", "activation", "activation_fn", "intermediate_act_fn", "activation_function"}
)
"""What the modules of that activation are called."""
_DEEPEST = 4


def config_of(target: str, limits: Limits) -> dict[str, Setting]:
    """What the configuration beside a local file says of norms and activations, by dotted key.

    Empty where there is none, or where it is not that of the file. A damaged one is none: the
    weights are what was asked about.
    """
    path = Path(target)
    if path.is_dir():
        folder = path
    elif path.name.startswith(_WEIGHTS):
        folder = path.parent
    else:
        return {}
    try:
        if not (folder / _FILE).is_file():
            return {}
        source = FileSource(folder / _FILE)
        try:
            described = read_json(source, 0, source.size, Budget(limits), "the configuration")
        finally:
            source.close()
    except (NormcheckError, OSError):
        return {}
    return dict(_told(described, "", 0))


def _told(value: object, prefix: str, depth: int) -> Iterator[tuple[str, Setting]]:
    if not isinstance(value, dict) or depth > _DEEPEST:
        return
    for key, entry in value.items():
        if key in _EPS_OF or key in _OTHERS:
            if isinstance(entry, bool | int | float | str):
                yield prefix + key, entry
        elif isinstance(entry, dict):
            yield from _told(entry, f"{prefix}{key}.", depth + 1)


def activation_changes(
    old: Mapping[str, Hyperparameters], new: Mapping[str, Hyperparameters]
) -> Iterator[HyperparameterChange]:
    """Activations of one side's modules or graph that the other's configuration gives otherwise."""
    for configured, shown, turned in ((old, new, False), (new, old, True)):
        if _FILE not in configured or _FILE in shown:
            continue
        told = {
            value
            for key, value in configured[_FILE].values.items()
            if key.rpartition(".")[2] in _HIDDEN
        }
        wanted = _ACTIVATIONS.get(str(next(iter(told)))) if len(told) == 1 else None
        for path, layer in shown.items():
            found = layer.values.get("activation")
            own = path.rpartition(".")[2] in _ITS_MODULES and path not in configured
            if wanted is None or not own or not isinstance(found, str) or found == wanted:
                continue
            both = (found, wanted) if turned else (wanted, found)
            yield HyperparameterChange(path, "activation", *both, norm=False)


def with_config(
    found: Mapping[str, Hyperparameters], config: Mapping[str, Setting], anatomy: Anatomy
) -> dict[str, Hyperparameters]:
    """Hyperparameters completed by a configuration; a layer's own value stands before it.

    An eps is taken where the configuration gives one for the layer's family, not several for
    several parts of a model.
    """
    completed = dict(found)
    eps: dict[Family, set[Setting]] = {}
    for key, value in config.items():
        for family in _EPS_OF.get(key.rpartition(".")[2], ()):
            eps.setdefault(family, set()).add(value)
    for layer in anatomy.layers:
        values = eps.get(layer.kind.family, set())
        known = found.get(layer.path)
        if len(values) == 1 and known is not None and "eps" not in known.values:
            completed[layer.path] = Hyperparameters(
                {**known.values, "eps": next(iter(values))}, norm=True
            )
    if config:
        completed[_FILE] = Hyperparameters(config)
    return completed
