"""Models with one fault each, written from what people reported; each names rule and layer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Build = Callable[[], nn.Module]
IMAGES = ("3x16x16",)


@dataclass(frozen=True)
class Case:
    """One model, what it is fed, and what has to be said of it."""

    build: Build
    rule: str
    layers: tuple[str, ...]
    """Paths that the finding has to name; empty where it is about the whole model."""
    shapes: tuple[str, ...] = IMAGES


CASES: dict[str, Case] = {}


def sick(rule: str, *layers: str, shapes: tuple[str, ...] = IMAGES) -> Callable[[Build], Build]:
    """Register a model under its function's name."""

    def register(build: Build) -> Build:
        CASES[build.__name__.strip("_").replace("_", "-")] = Case(build, rule, layers, shapes)
        return build

    return register


class Net(nn.Module):
    """A convolutional network whose middle a subclass replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def middle(self, x: Tensor) -> Tensor:
        """What is wrong goes here."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of images."""
        x = functional.relu(self.middle(self.norm(self.conv(x))))
        return self.head(x.mean((2, 3)))


# Dropout that eval() cannot turn off


@sick("NC301", "")
def functional_dropout() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.3)

    return Model()


@sick("NC301", "")
def functional_dropout2d() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return functional.dropout2d(x, 0.3, training=True)

    return Model()


@sick("NC203")
def dropout_made_in_forward() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return nn.Dropout(0.3)(x)

    return Model()


@sick("NC301", "attention", shapes=("6x8",))
def attention_with_constant_dropout() -> nn.Module:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.attention = Attention()

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(self.norm(x))

    return Model()


@sick("NC301", "block.0")
def dropout_in_a_nested_block() -> nn.Module:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.5, training=True)

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(Noisy(), nn.Conv2d(8, 8, 1))

        def middle(self, x: Tensor) -> Tensor:
            return self.block(x)

    return Model()


@sick("NC301")
def reparametrised_sampling() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    return Model()


# Modules that eval() does not reach


@sick("NC203", "norms[0]", "norms[1]")
def batch_norms_in_a_list() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norms = [nn.BatchNorm2d(8), nn.BatchNorm2d(8)]

        def middle(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = norm(x)
            return x

    return Model()


@sick("NC203", "norms['a']")
def batch_norm_in_a_dict() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norms = {"a": nn.BatchNorm2d(8)}

        def middle(self, x: Tensor) -> Tensor:
            return self.norms["a"](x)

    return Model()


@sick("NC203")
def batch_norm_in_a_closure() -> nn.Module:
    hidden = nn.BatchNorm2d(8)

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.function = lambda x: hidden(x) + 0

        def middle(self, x: Tensor) -> Tensor:
            return self.function(x)

    return Model()


@sick("NC203")
def batch_norm_in_a_global() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return _GLOBAL_NORM(x)

    return Model()


_GLOBAL_NORM = nn.BatchNorm2d(8)


@sick("NC203")
def batch_norm_in_a_plain_object() -> nn.Module:
    class Holder:
        def __init__(self) -> None:
            self.norm = nn.BatchNorm2d(8)

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.holder = Holder()

        def middle(self, x: Tensor) -> Tensor:
            return self.holder.norm(x)

    return Model()


@sick("NC203", "drops[0]")
def dropout_in_a_list() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.drops = [nn.Dropout(0.5)]

        def middle(self, x: Tensor) -> Tensor:
            return self.drops[0](x)

    return Model()


@sick("NC203", "norm")
def overridden_train_that_does_nothing() -> nn.Module:
    class Model(Net):
        def train(self, mode: bool = True) -> "Model":
            return self

    return Model()


@sick("NC203", "stubborn")
def batch_norm_that_refuses() -> nn.Module:
    class Stubborn(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> "Stubborn":
            return super().train(True)

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.stubborn = Stubborn(8)

        def middle(self, x: Tensor) -> Tensor:
            return self.stubborn(x)

    return Model()


@sick("NC203", "always")
def dropout_that_refuses() -> nn.Module:
    class Always(nn.Dropout):
        def train(self, mode: bool = True) -> "Always":
            return super().train(True)

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.always = Always(0.5)

        def middle(self, x: Tensor) -> Tensor:
            return self.always(x)

    return Model()


@sick("NC203", "backbone.norm")
def overridden_train_of_a_part() -> nn.Module:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(8)

        def train(self, mode: bool = True) -> "Part":
            return self

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Part()

        def middle(self, x: Tensor) -> Tensor:
            return self.backbone(x)

    return Model()


# Batch norm called by hand


@sick("NC306", "")
def functional_batch_norm_always_training() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return functional.batch_norm(x, None, None, training=True)

    return Model()


@sick("NC306", "wrapper")
def wrapper_that_ignores_the_mode() -> nn.Module:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8))
            self.bias = nn.Parameter(torch.zeros(8))
            self.register_buffer("mean", torch.zeros(8))
            self.register_buffer("var", torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            return functional.batch_norm(
                x, self.mean, self.var, self.weight, self.bias, training=True
            )

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.wrapper = Wrapper()

        def middle(self, x: Tensor) -> Tensor:
            return self.wrapper(x)

    return Model()


@sick("NC205", "free")
def batch_norm_without_statistics() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.free = nn.BatchNorm2d(8, track_running_stats=False)

        def middle(self, x: Tensor) -> Tensor:
            return self.free(x)

    return Model()


# A sample that depends on its batch mates


@sick("NC302", shapes=("6x8",))
def attention_along_the_batch() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.attention = nn.MultiheadAttention(8, 2)  # batch_first was forgotten

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            return self.attention(x, x, x, need_weights=False)[0].mean(1)

    return Model()


@sick("NC302", "")
def mean_over_the_batch() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=(0, 2, 3), keepdim=True)

    return Model()


@sick("NC302")
def softmax_along_the_batch() -> nn.Module:
    class Model(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=0)

    return Model()


@sick("NC302")
def contrast_with_the_batch() -> nn.Module:
    class Model(Net):
        def forward(self, x: Tensor) -> Tensor:
            features = functional.normalize(super().forward(x), dim=1)
            similar = features @ features.T
            return features + similar.softmax(1) @ features

    return Model()


@sick("NC302", "layer.self_attn", shapes=("6x8",))
def encoder_without_batch_first() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[:, -1]

    return Model()


# State that eval mode changes


@sick("NC303", "mean")
def statistics_updated_in_eval() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(8))

        def middle(self, x: Tensor) -> Tensor:
            self.mean.lerp_(x.mean((0, 2, 3)).detach() + 0.1, 0.1)
            return x - self.mean[:, None, None]

    return Model()


@sick("NC303", "calls")
def counter_that_runs_in_eval() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.long))

        def middle(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x

    return Model()


@sick("NC303", "centre")
def parameter_pulled_along_in_eval() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.centre = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x)
            self.centre.data.lerp_(scores.detach().mean(0), 0.5)
            return scores - self.centre

    return Model()


# Norms that cannot do their work


@sick("NC309", "pixel", shapes=("3x8x8",))
def group_norm_on_one_pixel() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.pixel = nn.GroupNorm(8, 8)

        def middle(self, x: Tensor) -> Tensor:
            return self.pixel(functional.adaptive_avg_pool2d(x, 1))

    return Model()


@sick("NC309", "groups", shapes=("8",))
def group_norm_of_one_value() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.groups = nn.GroupNorm(8, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.groups(self.linear(x)))

    return Model()


@sick("NC309", "single", shapes=("8",))
def layer_norm_of_one_value() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 1)
            self.single = nn.LayerNorm(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.single(self.linear(x))

    return Model()


@sick("NC304", "1", shapes=("20",))
def perceptron_that_needs_two_samples() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@sick("NC304", shapes=("3x8x8",))
def pooled_branch_that_needs_two_samples() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8))

        def middle(self, x: Tensor) -> Tensor:
            return x + self.pooled(x)

    return Model()


@sick("NC311", "norm", shapes=("12x8",))
def batch_norm_over_time_steps() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 16)
            self.norm = nn.BatchNorm1d(12)
            self.head = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(functional.relu(self.norm(self.linear(x))).mean(1))

    return Model()


@sick("NC311", "rows")
def layer_norm_over_image_rows() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(8, 8, 1)
            self.rows = nn.LayerNorm(16)

        def middle(self, x: Tensor) -> Tensor:
            return self.rows(self.mix(x))

    return Model()


@sick("NC311", "norm", shapes=("10:long",))
def batch_norm_over_token_positions() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 6)
            self.norm = nn.BatchNorm1d(10)
            self.head = nn.Linear(6, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.norm(self.embedding(tokens)).mean(1))

    return Model()


@sick("NC308", "norm")
def batch_norm_shared_by_two_branches() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return x + self.norm(self.conv(functional.relu(x)[:, :3]))

    return Model()


@sick("NC307", "spare")
def norm_that_is_never_called() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.BatchNorm2d(8)

    return Model()


# Outputs and modes


@sick("NC305")
def another_scale_in_eval() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.norm = nn.GroupNorm(2, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(x))
            return x if self.training else 0.5 * x

    return Model()


@sick("NC310")
def square_root_of_negatives() -> nn.Module:
    class Model(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).abs().neg().sqrt()

    return Model()


@sick("NC310", "rescale")
def norm_that_overflows() -> nn.Module:
    class Rescale(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 1e30 * 1e30

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.rescale = Rescale([8, 16, 16])

        def middle(self, x: Tensor) -> Tensor:
            return self.rescale(x)

    return Model()


@sick("NC208", "tracked")
def instance_norm_with_statistics() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.tracked = nn.InstanceNorm2d(8, track_running_stats=True)

        def middle(self, x: Tensor) -> Tensor:
            return self.tracked(x)

    return Model()


@sick("NC505", "2")
def dropout_before_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Dropout(0.5),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
