"""Decoder-only language models."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .norms import GemmaRMSNorm, LlamaRMSNorm, Qwen3RMSNorm
from .registry import architecture, tokens
from .transformers import attend


class Conv1D(nn.Module):
    """GPT-2's linear layer with a transposed weight."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class GPT2Attention(nn.Module):
    """Its buffers ``bias`` and ``masked_bias`` are the causal mask."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("bias", torch.ones(12, 12).tril().bool().view(1, 1, 12, 12))
        self.register_buffer("masked_bias", torch.tensor(-1e4))
        self.c_attn = Conv1D(3 * dim, dim)
        self.c_proj = Conv1D(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.c_attn(x).chunk(3, -1)
        return self.c_proj(attend(query, key, value, 2, causal=True))


class GPT2MLP(nn.Module):
    """c_fc and c_proj."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.c_fc = Conv1D(2 * dim, dim)
        self.c_proj = Conv1D(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(functional.gelu(self.c_fc(x)))


class GPTLayerNorm(nn.Module):
    """A LayerNorm with an optional bias, from before torch had one."""

    norm_kind: ClassVar[str] = "LayerNorm"

    def __init__(self, ndim: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(ndim))
        self.bias = nn.Parameter(torch.zeros(ndim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class GPT2Block(nn.Module):
    """ln_1, attn, ln_2 and mlp."""

    def __init__(self, dim: int, norm: type[nn.LayerNorm | GPTLayerNorm]) -> None:
        super().__init__()
        self.ln_1 = norm(dim)
        self.attn = GPT2Attention(dim)
        self.ln_2 = norm(dim)
        self.mlp = GPT2MLP(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """The head shares the weight of the token table."""

    def __init__(self, norm: type[nn.LayerNorm | GPTLayerNorm]) -> None:
        super().__init__()
        self.wte = nn.Embedding(40, 16)
        self.wpe = nn.Embedding(12, 16)
        self.h = nn.ModuleList([GPT2Block(16, norm) for _ in range(2)])
        self.ln_f = norm(16)
        self.lm_head = nn.Linear(16, 40, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


@architecture(tokens(40, 2, 9))
def gpt2() -> nn.Module:
    return GPT2(nn.LayerNorm)


@architecture(tokens(40, 2, 9))
def nanogpt_no_bias() -> nn.Module:
    """LayerNorms of an own class with a weight only: like RMSNorms in a state dict."""
    return GPT2(GPTLayerNorm)


class SelfAttention(nn.Module):
    """Llama's projections, with norms over each head's queries and keys on demand."""

    def __init__(self, dim: int, norm: type[nn.Module] | None) -> None:
        super().__init__()
        self.head_dim = dim // 4
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim // 2, bias=False)
        self.v_proj = nn.Linear(dim, dim // 2, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)
        if norm is not None:
            self.q_norm = norm(self.head_dim)
            self.k_norm = norm(self.head_dim)

    def forward(self, x: Tensor) -> Tensor:
        query = self.q_proj(x).unflatten(-1, (-1, self.head_dim))
        key = self.k_proj(x).unflatten(-1, (-1, self.head_dim))
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        # Grouped heads: every key and value serves two queries.
        key, value = (part.repeat_interleave(2, 2) for part in (key, self._values(x)))
        out = attend(query.flatten(2), key.flatten(2), value.flatten(2), 4, causal=True)
        return self.o_proj(out)

    def _values(self, x: Tensor) -> Tensor:
        return self.v_proj(x).unflatten(-1, (-1, self.head_dim))


class GatedMLP(nn.Module):
    """gate_proj, up_proj and down_proj."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.up_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.down_proj = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Two norms around the parts, or four, as in Gemma 2."""

    def __init__(self, dim: int, norm: type[nn.Module], qk_norm: bool, sandwich: bool) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, norm if qk_norm else None)
        self.mlp = GatedMLP(dim)
        self.input_layernorm = norm(dim)
        self.post_attention_layernorm = norm(dim)
        if sandwich:
            self.pre_feedforward_layernorm = norm(dim)
            self.post_feedforward_layernorm = norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        out = self.self_attn(self.input_layernorm(x))
        if not hasattr(self, "pre_feedforward_layernorm"):
            x = x + out
            return x + self.mlp(self.post_attention_layernorm(x))
        x = x + self.post_attention_layernorm(out)
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class DecoderModel(nn.Module):
    """Embedding, layers, norm, and the 1-D buffer of the rotary frequencies."""

    def __init__(self, norm: type[nn.Module], qk_norm: bool, sandwich: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(40, 16)
        self.layers = nn.ModuleList(DecoderLayer(16, norm, qk_norm, sandwich) for _ in range(2))
        self.norm = norm(16)
        self.rotary_emb = nn.Module()
        self.rotary_emb.register_buffer("inv_freq", 10000.0 ** -torch.linspace(0, 1, 2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class CausalLM(nn.Module):
    """``model`` and ``lm_head``."""

    def __init__(
        self, norm: type[nn.Module], qk_norm: bool = False, sandwich: bool = False
    ) -> None:
        super().__init__()
        self.model = DecoderModel(norm, qk_norm, sandwich)
        self.lm_head = nn.Linear(16, 40, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.lm_head(self.model(ids))


@architecture(tokens(40, 2, 7))
def llama() -> nn.Module:
    return CausalLM(LlamaRMSNorm)


@architecture(tokens(40, 2, 7))
def qwen3() -> nn.Module:
    """Norms over the four dimensions of a head, next to those over the width."""
    return CausalLM(Qwen3RMSNorm, qk_norm=True)


@architecture(tokens(40, 2, 7))
def gemma() -> nn.Module:
    """Weights around zero, as 1 is added to them, and four norms per layer."""
    return CausalLM(GemmaRMSNorm, sandwich=True)


@architecture(tokens(40, 2, 7))
def torch_rmsnorm_lm() -> nn.Module:
    return CausalLM(nn.RMSNorm)


class PlainLayerNorm(nn.LayerNorm):
    """A LayerNorm without parameters."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, elementwise_affine=False)


@architecture(tokens(40, 2, 7))
def olmo() -> nn.Module:
    """All its norms are without parameters: a state dict shows none."""
    return CausalLM(PlainLayerNorm)
