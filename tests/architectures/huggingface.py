"""Tiny models of the transformers library, where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import nn

from .registry import Factory, Inputs, floats, tokens

VOCABULARY = 40

#: Class names of modules that are no norms, and which a state dict cannot tell from one.
HUGGINGFACE_LOOKALIKES = {"NoNorm": "an elementwise product and sum called LayerNorm"}

#: Name -> why torch.save refuses the whole model.
HUGGINGFACE_STATE_DICT_ONLY = {
    "hf_wav2vec2": "its positional convolution is parametrized",
    "hf_wav2vec2_stable": "its positional convolution is parametrized",
}


class Recipe(NamedTuple):
    """The name that model and configuration have in common, the options, and the inputs."""

    model: str
    config: str
    options: Mapping[str, Any]
    inputs: Inputs


# Some defaults of these lie outside a vocabulary as small as this one.
_SPECIAL: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
_DECODER: dict[str, Any] = _ENCODER | _SPECIAL | {"num_key_value_heads": 1, "head_dim": 8}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 4,
}
_TEXT = tokens(VOCABULARY, 2, 6)
_IMAGE = floats(2, 3, 16, 16)
_SPEECH: dict[str, Any] = _ENCODER | {
    "conv_dim": (8, 8),
    "conv_kernel": (4, 3),
    "conv_stride": (2, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 5,
    "num_conv_pos_embedding_groups": 4,
    "apply_spec_augment": False,
}


def _text_and_target() -> tuple[Any, ...]:
    return (torch.randint(VOCABULARY, (2, 6)), None, torch.randint(VOCABULARY, (2, 4)))


_RECIPES: dict[str, Recipe] = {
    "hf_bert": Recipe("BertForPreTraining", "BertConfig", _ENCODER, _TEXT),
    "hf_mobilebert": Recipe(
        "MobileBertModel",
        "MobileBertConfig",
        _ENCODER | {"embedding_size": 8, "intra_bottleneck_size": 8, "num_feedforward_networks": 2},
        _TEXT,
    ),
    "hf_deberta": Recipe("DebertaModel", "DebertaConfig", _ENCODER, _TEXT),
    "hf_gpt2": Recipe(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
        | _SPECIAL,
        _TEXT,
    ),
    "hf_gpt_neox": Recipe("GPTNeoXForCausalLM", "GPTNeoXConfig", _ENCODER, _TEXT),
    "hf_t5": Recipe(
        "T5Model",
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2}
        | {"num_heads": 2},
        _text_and_target,
    ),
    "hf_llama": Recipe("LlamaForCausalLM", "LlamaConfig", _DECODER, _TEXT),
    "hf_qwen3": Recipe("Qwen3ForCausalLM", "Qwen3Config", _DECODER, _TEXT),
    "hf_gemma": Recipe("GemmaForCausalLM", "GemmaConfig", _DECODER, _TEXT),
    "hf_gemma3": Recipe("Gemma3ForCausalLM", "Gemma3TextConfig", _DECODER, _TEXT),
    "hf_olmo": Recipe("OlmoForCausalLM", "OlmoConfig", _DECODER, _TEXT),
    "hf_olmo2": Recipe("Olmo2ForCausalLM", "Olmo2Config", _DECODER, _TEXT),
    "hf_cohere": Recipe(
        "CohereForCausalLM", "CohereConfig", _DECODER | {"use_qk_norm": True}, _TEXT
    ),
    "hf_stablelm": Recipe(
        "StableLmForCausalLM", "StableLmConfig", _DECODER | {"qk_layernorm": True}, _TEXT
    ),
    "hf_nemotron": Recipe("NemotronForCausalLM", "NemotronConfig", _DECODER, _TEXT),
    "hf_mamba2": Recipe(
        "Mamba2ForCausalLM",
        "Mamba2Config",
        {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 4}
        | {"head_dim": 8, "state_size": 4, "n_groups": 1, "expand": 2, "chunk_size": 4},
        _TEXT,
    ),
    "hf_vit": Recipe("ViTForImageClassification", "ViTConfig", _VISION, _IMAGE),
    "hf_dinov2": Recipe("Dinov2Model", "Dinov2Config", _VISION | {"mlp_ratio": 2}, _IMAGE),
    "hf_swin": Recipe(
        "SwinModel",
        "SwinConfig",
        {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}
        | {"window_size": 4, "mlp_ratio": 2.0},
        _IMAGE,
    ),
    "hf_resnet": Recipe(
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
        floats(2, 3, 32, 32),
    ),
    "hf_bit": Recipe(
        "BitModel",
        "BitConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_groups": 4},
        floats(2, 3, 32, 32),
    ),
    "hf_mobilenet_v2": Recipe(
        "MobileNetV2Model",
        "MobileNetV2Config",
        {"depth_multiplier": 0.1, "min_depth": 4, "depth_divisible_by": 4, "expand_ratio": 1.5}
        | {"finegrained_output": False},
        floats(2, 3, 32, 32),
    ),
    "hf_convnext_v2": Recipe(
        "ConvNextV2Model",
        "ConvNextV2Config",
        {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2},
        floats(2, 3, 32, 32),
    ),
    "hf_wav2vec2": Recipe("Wav2Vec2Model", "Wav2Vec2Config", _SPEECH, floats(2, 100)),
    "hf_wav2vec2_stable": Recipe(
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        _SPEECH | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
        floats(2, 100),
    ),
    "hf_whisper": Recipe(
        "WhisperModel",
        "WhisperConfig",
        {"vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_mel_bins": 8}
        | {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_source_positions": 8}
        | {"max_target_positions": 8, "pad_token_id": 0, "decoder_start_token_id": 1}
        | {"bos_token_id": 0, "eos_token_id": 2},
        lambda: (torch.randn(2, 8, 16), None, torch.randint(VOCABULARY, (2, 4))),
    ),
    "hf_patchtst": Recipe(
        "PatchTSTModel",
        "PatchTSTConfig",
        {"num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4}
        | {"d_model": 16, "num_attention_heads": 2, "ffn_dim": 24, "num_hidden_layers": 2},
        floats(2, 16, 2),
    ),
}


def _build(recipe: Recipe) -> nn.Module:
    library = import_module("transformers")
    model: Callable[[Any], nn.Module] = getattr(library, recipe.model)
    return model(getattr(library, recipe.config)(**recipe.options))


def huggingface_architectures() -> dict[str, Factory]:
    """Give the factories, none where the transformers library is not installed."""
    if find_spec("transformers") is None:
        return {}
    return {name: partial(_build, recipe) for name, recipe in _RECIPES.items()}


def huggingface_example_inputs() -> dict[str, Inputs]:
    """Give the arguments of their forward passes, none where the library is not installed."""
    if find_spec("transformers") is None:
        return {}
    return {name: recipe.inputs for name, recipe in _RECIPES.items()}
