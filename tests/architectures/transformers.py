"""Encoders and encoder-decoders for text, in the naming of the libraries that train them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .norms import BertLayerNorm, GammaLayerNorm, ScaleNorm, T5LayerNorm
from .registry import architecture, floats, together, tokens

Norm = Callable[[int], nn.Module]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool = False) -> Tensor:
    """Attend over (batch, time, heads * width) tensors."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return out.transpose(1, 2).flatten(2)


class BertSelfAttention(nn.Module):
    """Projections only."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return attend(self.query(x), self.key(x), self.value(x), 2)


class BertOutput(nn.Module):
    """A projection, the shortcut and the LayerNorm after it."""

    def __init__(self, inputs: int, dim: int, norm: Norm) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, dim)
        self.LayerNorm = norm(dim)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + shortcut)


class BertLayer(nn.Module):
    """attention.self, attention.output, intermediate.dense and output."""

    def __init__(self, dim: int, norm: Norm) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": BertSelfAttention(dim), "output": BertOutput(dim, dim, norm)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(dim, 2 * dim)})
        self.output = BertOutput(2 * dim, dim, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x), x)
        return self.output(functional.gelu(self.intermediate["dense"](x)), x)


class BertEmbeddings(nn.Module):
    """Three tables and a LayerNorm."""

    position_ids: Tensor

    def __init__(self, dim: int, norm: Norm) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(50, dim, padding_idx=0)
        self.position_embeddings = nn.Embedding(12, dim)
        self.token_type_embeddings = nn.Embedding(2, dim)
        self.LayerNorm = norm(dim)
        self.register_buffer("position_ids", torch.arange(12).expand((1, -1)))

    def forward(self, ids: Tensor) -> Tensor:
        position = self.position_embeddings(self.position_ids[:, : ids.shape[1]])
        types = self.token_type_embeddings(torch.zeros_like(ids))
        return self.LayerNorm(self.word_embeddings(ids) + position + types)


class BertModel(nn.Module):
    """BERT with a masked-token head, whose transform has a norm too."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        dim = 16
        self.embeddings = BertEmbeddings(dim, norm)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList([BertLayer(dim, norm) for _ in range(2)])}
        )
        self.pooler = nn.ModuleDict({"dense": nn.Linear(dim, dim)})
        self.cls = nn.ModuleDict({"transform": BertOutput(dim, dim, norm)})

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embeddings(ids)
        for layer in self.encoder["layer"].children():
            x = layer(x)
        pooled = torch.tanh(self.pooler["dense"](x[:, 0]))
        return self.cls["transform"](x, torch.zeros_like(x)), pooled


@architecture(tokens(50, 2, 8))
def bert() -> nn.Module:
    return BertModel(nn.LayerNorm)


@architecture(tokens(50, 2, 8))
def bert_gamma_beta() -> nn.Module:
    """The first ports, whose checkpoints say LayerNorm.gamma and LayerNorm.beta."""
    return BertModel(BertLayerNorm)


class T5Attention(nn.Module):
    """Four projections without bias; the first one of a stack has the position bias."""

    def __init__(self, dim: int, relative: bool) -> None:
        super().__init__()
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        if relative:
            self.relative_attention_bias = nn.Embedding(8, 2)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.o(attend(self.q(x), self.k(memory), self.v(memory), 2))


class T5Layer(nn.Module):
    """One part under the name that its kind has, with its norm ``layer_norm``."""

    def __init__(self, name: str, part: nn.Module, dim: int) -> None:
        super().__init__()
        self.add_module(name, part)
        self.layer_norm = T5LayerNorm(dim)
        self.part = name

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        normed = self.layer_norm(x)
        part = self.get_submodule(self.part)
        if isinstance(part, T5Attention):
            return x + part(normed, normed if memory is None else memory)
        return x + part(normed)


class T5Feed(nn.Module):
    """wi and wo."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.wi = nn.Linear(dim, 2 * dim, bias=False)
        self.wo = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(functional.relu(self.wi(x)))


class T5Block(nn.Module):
    """Self attention, in a decoder cross attention, and the feed-forward part."""

    def __init__(self, dim: int, decoder: bool, relative: bool) -> None:
        super().__init__()
        layers = [T5Layer("SelfAttention", T5Attention(dim, relative), dim)]
        if decoder:
            layers.append(T5Layer("EncDecAttention", T5Attention(dim, False), dim))
        layers.append(T5Layer("DenseReluDense", T5Feed(dim), dim))
        self.layer = nn.ModuleList(layers)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        for i, layer in enumerate(self.layer):
            x = layer(x, memory if i == 1 and len(self.layer) == 3 else None)
        return x


class T5Stack(nn.Module):
    """Blocks over the shared embedding, with a final norm."""

    def __init__(self, embedding: nn.Embedding, decoder: bool) -> None:
        super().__init__()
        dim = embedding.embedding_dim
        self.embed_tokens = embedding
        self.block = nn.ModuleList([T5Block(dim, decoder, i == 0) for i in range(2)])
        self.final_layer_norm = T5LayerNorm(dim)

    def forward(self, ids: Tensor, memory: Tensor | None = None) -> Tensor:
        x = self.embed_tokens(ids)
        for block in self.block:
            x = block(x, memory)
        return self.final_layer_norm(x)


class T5(nn.Module):
    """Encoder and decoder with one embedding under three names."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(40, 16)
        self.encoder = T5Stack(self.shared, decoder=False)
        self.decoder = T5Stack(self.shared, decoder=True)
        self.lm_head = nn.Linear(16, 40, bias=False)

    def forward(self, ids: Tensor, target: Tensor) -> Tensor:
        return self.lm_head(self.decoder(target, self.encoder(ids)))


@architecture(together(tokens(40, 2, 7), tokens(40, 2, 5)))
def t5() -> nn.Module:
    """Norms called layer_norm that are RMSNorms."""
    return T5()


@architecture(floats(2, 6, 16))
def torch_encoder() -> nn.Module:
    """The encoder of torch itself, with the norm that it may have at its end."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    final = nn.LayerNorm(16)
    return nn.TransformerEncoder(layer, 2, norm=final, enable_nested_tensor=False)


@architecture(together(floats(2, 6, 16), floats(2, 4, 16)))
def torch_transformer() -> nn.Module:
    """Encoder and decoder whose norms and projections have no bias."""
    with warnings.catch_warnings():
        # Without bias there is no fast path, which torch says on every construction.
        warnings.simplefilter("ignore", UserWarning)
        return nn.Transformer(16, 2, 1, 2, 32, batch_first=True, bias=False)


class FairseqLayer(nn.Module):
    """fairseq's encoder layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, 2, add_bias_kv=True, batch_first=True)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, x, x, need_weights=False)[0])
        return self.final_layer_norm(x + self.fc2(functional.relu(self.fc1(x))))


class FairseqEncoder(nn.Module):
    """Norms after the embedding, in the layers and at the end; a buffer ``version``."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("version", torch.tensor([3.0]))
        self.embed_tokens = nn.Embedding(40, 16)
        self.layernorm_embedding = nn.LayerNorm(16)
        self.layers = nn.ModuleList([FairseqLayer(16) for _ in range(2)])
        self.layer_norm = nn.LayerNorm(16)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.layernorm_embedding(self.embed_tokens(ids))
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)


@architecture(tokens(40, 2, 6))
def fairseq_encoder() -> nn.Module:
    return FairseqEncoder()


class PreNorm(nn.Module):
    """Normalize, then apply: no norm itself, whatever its name says."""

    def __init__(self, norm: nn.Module, fn: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(self.norm(x))


def _feed(dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


@architecture(floats(2, 5, 16))
def prenorm_gamma() -> nn.Module:
    """LayerNorms with a learned gamma and a beta that is a buffer, in wrappers."""
    return nn.Sequential(*(PreNorm(GammaLayerNorm(16), _feed(16)) for _ in range(2)))


@architecture(floats(2, 5, 16))
def prenorm_scale() -> nn.Module:
    """ScaleNorm: one learned scalar per norm."""
    return nn.Sequential(*(PreNorm(ScaleNorm(4.0), _feed(16)) for _ in range(2)))
