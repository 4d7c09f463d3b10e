"""Speech, sound and text lines."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from .norms import GlobalLayerNorm
from .recurrent import NO_WHOLE
from .registry import architecture, floats, together, tokens
from .transformers import attend


class WhisperAttention(nn.Module):
    """Whisper's projections: keys have no bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.out(attend(self.query(x), self.key(memory), self.value(memory), 2))


class WhisperBlock(nn.Module):
    """attn_ln, in the decoder cross_attn_ln, and mlp_ln."""

    def __init__(self, dim: int, cross: bool) -> None:
        super().__init__()
        self.attn = WhisperAttention(dim)
        self.attn_ln = nn.LayerNorm(dim)
        self.cross_attn = WhisperAttention(dim) if cross else None
        self.cross_attn_ln = nn.LayerNorm(dim) if cross else None
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.mlp_ln = nn.LayerNorm(dim)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        normed = self.attn_ln(x)
        x = x + self.attn(normed, normed)
        if self.cross_attn is not None and self.cross_attn_ln is not None:
            x = x + self.cross_attn(self.cross_attn_ln(x), memory)
        return x + self.mlp(self.mlp_ln(x))


class WhisperEncoder(nn.Module):
    """Convolutions, blocks and ln_post."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(10, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, 2, 1)
        self.register_buffer("positional_embedding", torch.randn(8, dim))
        self.blocks = nn.Sequential(WhisperBlock(dim, False))
        self.ln_post = nn.LayerNorm(dim)

    def forward(self, mel: Tensor) -> Tensor:
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        return self.ln_post(self.blocks(x + self.get_buffer("positional_embedding")))


class WhisperDecoder(nn.Module):
    """Token table, blocks and ``ln``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(30, dim)
        self.blocks = nn.ModuleList([WhisperBlock(dim, True)])
        self.ln = nn.LayerNorm(dim)

    def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
        x = self.token_embedding(ids)
        for block in self.blocks:
            x = block(x, memory)
        return self.ln(x) @ self.token_embedding.weight.T


class Whisper(nn.Module):
    """encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = WhisperEncoder(16)
        self.decoder = WhisperDecoder(16)

    def forward(self, mel: Tensor, ids: Tensor) -> Tensor:
        return self.decoder(ids, self.encoder(mel))


@architecture(together(floats(2, 10, 16), tokens(30, 2, 5)))
def whisper() -> nn.Module:
    return Whisper()


class ConvLayer(nn.Module):
    """A wav2vec 2.0 feature layer: only the first has a norm, a GroupNorm of one per channel."""

    def __init__(self, inputs: int, outputs: int, normed: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, 2, bias=False)
        self.layer_norm = nn.GroupNorm(outputs, outputs) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.layer_norm(self.conv(x)))


class Wav2Vec2(nn.Module):
    """Features, their projection, the positional convolution and the encoder."""

    def __init__(self) -> None:
        super().__init__()
        layers = [ConvLayer(1, 8, True), ConvLayer(8, 8, False)]
        self.feature_extractor = nn.Sequential(OrderedDict(conv_layers=nn.Sequential(*layers)))
        self.feature_projection = nn.Sequential(
            OrderedDict(layer_norm=nn.LayerNorm(8), projection=nn.Linear(8, 16))
        )
        self.encoder = nn.ModuleDict(
            {
                "pos_conv_embed": nn.Sequential(
                    OrderedDict(
                        conv=parametrizations.weight_norm(
                            nn.Conv1d(16, 16, 5, padding=2, groups=4), dim=2
                        )
                    )
                ),
                "layer_norm": nn.LayerNorm(16),
                "layers": nn.Sequential(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.feature_projection(self.feature_extractor(x[:, None]).transpose(1, 2))
        x = x + functional.gelu(self.encoder["pos_conv_embed"](x.transpose(1, 2))).transpose(1, 2)
        return self.encoder["layers"](self.encoder["layer_norm"](x))


@architecture(floats(2, 60), state_dict_only=NO_WHOLE)
def wav2vec2() -> nn.Module:
    return Wav2Vec2()


class BidirectionalLSTM(nn.Module):
    """rnn and embedding, which is a Linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(inputs, hidden, bidirectional=True)
        self.embedding = nn.Linear(2 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.rnn(x)[0])


class CRNN(nn.Module):
    """Reads text lines; its layers are called conv0, batchnorm2 and so on."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential()
        self.cnn.add_module("conv0", nn.Conv2d(1, 6, 3, 1, 1))
        self.cnn.add_module("relu0", nn.ReLU(True))
        self.cnn.add_module("pooling0", nn.MaxPool2d(2, 2))
        self.cnn.add_module("conv2", nn.Conv2d(6, 8, 3, 1, 1))
        self.cnn.add_module("batchnorm2", nn.BatchNorm2d(8))
        self.cnn.add_module("relu2", nn.ReLU(True))
        self.rnn = nn.Sequential(BidirectionalLSTM(8, 8, 8), BidirectionalLSTM(8, 8, 11))

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.cnn(x).mean(2).permute(2, 0, 1))


@architecture(floats(2, 1, 8, 24))
def crnn() -> nn.Module:
    return CRNN()


class SequenceWiseNorm(nn.Module):
    """Apply a norm to all time steps as one batch: the norm is ``module``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.flatten(0, 1)).view_as(x)


class BatchRNN(nn.Module):
    """DeepSpeech 2's layer; the first one has no norm."""

    def __init__(self, inputs: int, hidden: int, normed: bool) -> None:
        super().__init__()
        self.batch_norm = SequenceWiseNorm(nn.BatchNorm1d(inputs)) if normed else None
        self.rnn = nn.LSTM(inputs, hidden, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x if self.batch_norm is None else self.batch_norm(x))[0]


@architecture(floats(6, 2, 8))
def deepspeech_2() -> nn.Module:
    """A norm whose path ends in ``module``, as those under DataParallel begin."""
    rnns = nn.Sequential(BatchRNN(8, 12, False), BatchRNN(12, 12, True))
    head = nn.Sequential(SequenceWiseNorm(nn.BatchNorm1d(12)), nn.Linear(12, 9, bias=False))
    return nn.Sequential(OrderedDict(rnns=rnns, fc=head))


class ConformerConv(nn.Module):
    """The convolution part: LayerNorm, gate, depthwise convolution and BatchNorm1d."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim)
        self.pointwise_conv1 = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise_conv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.batch_norm = nn.BatchNorm1d(dim)
        self.pointwise_conv2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.glu(self.pointwise_conv1(self.layer_norm(x).transpose(1, 2)), 1)
        out = functional.silu(self.batch_norm(self.depthwise_conv(out)))
        return x + self.pointwise_conv2(out).transpose(1, 2)


@architecture(floats(2, 9, 8))
def conformer() -> nn.Module:
    feed = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 8))
    layers = {"ffn1": feed, "conv_module": ConformerConv(8), "final_layer_norm": nn.LayerNorm(8)}
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


@architecture(floats(2, 6, 12))
def tacotron_postnet() -> nn.Module:
    """Convolutions wrapped in ``conv`` and norms at 1."""
    layers = [
        nn.Sequential(
            nn.Sequential(OrderedDict(conv=nn.Conv1d(inputs, outputs, 5, padding=2))),
            nn.BatchNorm1d(outputs),
            nn.Tanh(),
        )
        for inputs, outputs in ((6, 12), (12, 12), (12, 6))
    ]
    return nn.Sequential(OrderedDict(convolutions=nn.Sequential(*layers)))


@architecture(floats(2, 6, 30))
def xvector_tdnn() -> nn.Module:
    """Kaldi's norms have statistics and no weight: BatchNorm1d(affine=False)."""
    layers = OrderedDict[str, nn.Module]()
    for i, (inputs, outputs, dilation) in enumerate(((6, 12, 1), (12, 12, 2)), start=1):
        layers[f"tdnn{i}"] = nn.Conv1d(inputs, outputs, 3, dilation=dilation)
        layers[f"nonlinearity{i}"] = nn.LeakyReLU()
        layers[f"batchnorm{i}"] = nn.BatchNorm1d(outputs, affine=False)
    return nn.Sequential(layers)


@architecture(
    floats(2, 8, 20),
    lookalikes={f"tcn.{i}.1": "a PReLU: one slope, a 1-D weight of one element" for i in (0, 1)},
)
def conv_tasnet() -> nn.Module:
    """Norms with gamma and beta of shape (1, C, 1), and PReLUs of one slope."""
    blocks = [
        nn.Sequential(
            nn.Conv1d(8, 12, 1, bias=False),
            nn.PReLU(),
            GlobalLayerNorm(12),
            nn.Conv1d(12, 12, 3, padding=1, groups=12, bias=False),
            nn.Conv1d(12, 8, 1, bias=False),
        )
        for _ in range(2)
    ]
    return nn.Sequential(OrderedDict(tcn=nn.Sequential(*blocks), norm=nn.GroupNorm(1, 8, 1e-8)))
