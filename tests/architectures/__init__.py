"""Small models in the structure and the naming of real projects, with their norms known.

``ARCHITECTURES`` maps a name to a factory, ``EXAMPLE_INPUTS`` a name to the arguments of a forward
pass. ``norms_of`` tells the normalization layers of the live model, and ``state_dict_truth`` which
of them its state dict can show, and as what. ``LOOKALIKES``, ``MISNAMED``, ``HIDDEN`` and
``STATE_DICT_ONLY`` list what a reader of the saved file cannot know, or might be misled by.
"""

from __future__ import annotations

from importlib.util import find_spec

from . import (  # noqa: F401 - each fills the registries
    audio,
    classifiers,
    convolutional,
    detection,
    diffusion,
    generative,
    language_models,
    lookalikes,
    mixers,
    mobile,
    odd_norms,
    recurrent,
    segmentation,
    transformers,
    vision_transformers,
    wrappers,
)
from .huggingface import (
    HUGGINGFACE_LOOKALIKES,
    HUGGINGFACE_STATE_DICT_ONLY,
    huggingface_architectures,
    huggingface_example_inputs,
)
from .registry import (
    ARCHITECTURES,
    EXAMPLE_INPUTS,
    HIDDEN,
    LOOKALIKES,
    MISNAMED,
    STATE_DICT_ONLY,
)
from .truth import (
    Trace,
    aliases_of,
    family_of,
    kind_of,
    lookalikes_of,
    norms_of,
    state_dict_truth,
)

if find_spec("torch.ao") is not None and find_spec("torch.ao.quantization") is not None:
    from . import quantized  # noqa: F401 - it fills the registries

#: The architectures without any normalization layer.
WITHOUT_NORMS = frozenset(
    {
        "gru_no_norm",
        "hf_mobilebert",
        "lenet",
        "lone_weights",
        "mlp_no_bias",
        "mobilebert_no_norm",
        "nfnet",
        "no_norm_of_many_kinds",
        "normalized_input",
        "parameter_dicts",
        "resmlp",
        "scalar_pairs",
    }
)

__all__ = [
    "ARCHITECTURES",
    "EXAMPLE_INPUTS",
    "HIDDEN",
    "HUGGINGFACE_LOOKALIKES",
    "HUGGINGFACE_STATE_DICT_ONLY",
    "LOOKALIKES",
    "MISNAMED",
    "STATE_DICT_ONLY",
    "WITHOUT_NORMS",
    "Trace",
    "aliases_of",
    "family_of",
    "huggingface_architectures",
    "huggingface_example_inputs",
    "kind_of",
    "lookalikes_of",
    "norms_of",
    "state_dict_truth",
]
