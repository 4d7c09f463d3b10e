"""What running a model showed: plain values, on which rules judge without torch."""

from dataclasses import field
from math import inf

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.decided_on_fields import DecidedOnFields
from normcheck.live.hits import Answers, Skill
from normcheck.live.misfit import InputMap, OtherCode, OtherContent
from normcheck.norms.layer import Floats


@lazy_dataclass()
class Fed:
    """What was fed."""

    source: str
    real: bool
    """The user's data; otherwise made up, and no statistic is judged by it."""
    guessed: bool
    """Whether even the shape was found by trial."""
    samples: int
    shapes: str
    """Of one sample's inputs."""
    batch_size: int
    batch_size_given: bool
    labelled: bool
    device: str
    dtype: str
    guessed_from: str = ""
    """What the size of made-up images was guessed from; empty where it was given or found by
    trial."""
    not_finite: int = 0
    """Samples of the user's whose inputs hold NaN or infinity; minus infinity may be a mask."""


@lazy_dataclass()
class NormRun:
    """One normalization that ran in a forward."""

    path: str
    """Of the module that it ran under; this may be the norm itself or whatever called it."""
    op: str
    training: bool | None
    """The flag that the operator got; None where it has none."""
    calls: int
    """In one forward."""
    shape: tuple[int, ...]
    values: int
    """Numbers that one mean is taken over."""
    per_sample: bool
    norm_layer: bool
    """Whether the module is a normalization layer; otherwise it was called by hand."""


@lazy_dataclass()
class Draw:
    """A kind of random number drawn under a module."""

    path: str
    op: str
    calls: int


@lazy_dataclass()
class Blame:
    """The first place where two forwards went apart."""

    path: str
    """Of the innermost module."""
    op: str
    """The operator, as torch calls it."""


@lazy_dataclass()
class StillTraining:
    """A module in train mode after ``model.eval()``."""

    path: str
    class_name: str
    kind: str
    """``norm``, ``dropout`` or ``model``."""
    registered: bool
    """Whether ``model.modules()`` knows it."""
    ran: bool


@lazy_dataclass()
class WrongAxis:
    """A norm whose features are not the channels of what it was given."""

    path: str
    kind: str
    shape: tuple[int, ...]
    features_at: int
    """Dimension of the input that holds its channels."""
    normalised_at: tuple[int, ...]
    """Dimensions that the norm takes for features."""
    producer: str
    """What made the input: ``convolution`` or ``linear``."""


@lazy_dataclass()
class Mechanics:
    """What a few forwards on any input showed."""

    norms: tuple[NormRun, ...]
    """In eval mode."""
    train_norms: tuple[NormRun, ...]
    draws: tuple[Draw, ...]
    """In eval mode."""
    still_training: tuple[StillTraining, ...]
    repeat_difference: float
    """Relative, between two eval forwards of the same batch; 0 is deterministic."""
    repeat_blame: Blame | None
    companions_difference: float | None
    """Relative, of one sample's output among two sets of companions; None where not tried."""
    companions_blame: Blame | None
    alone_difference: float | None
    """Relative, of one sample's output alone and among others."""
    tolerance: float
    """Relative difference that rounding can make."""
    changed_state: tuple[str, ...]
    """Parameters and buffers that an eval forward changes, each time."""
    single_error: str
    """Why train mode failed on a batch of one."""
    mode_difference: float | None
    """Relative, between eval and train mode with dropout off; None where not comparable."""
    mode_absolute: float | None
    """The largest absolute difference of the same."""
    modes_allclose: bool | None
    """``torch.allclose`` of the same."""
    mode_draws: tuple[Draw, ...]
    """Random numbers drawn in train mode that are no dropout's."""
    unused: tuple[str, ...]
    """Norm layers that no forward reached, in either mode."""
    not_finite: float
    """Share of output values that are NaN or infinite, in eval mode."""
    not_finite_blame: Blame | None
    wrong_axes: tuple[WrongAxis, ...]
    notes: tuple[str, ...] = ()
    """Probes that could not be run, and why."""
    train_draws: bool = False
    """Whether train mode draws random numbers, dropout's included."""
    deployed_difference: float | None = None
    """``repeat_difference`` of an ONNX file as ONNX Runtime optimises it; None where not tried."""


@lazy_dataclass(eq=False)
class Drift:
    """One layer's stored statistics against those of the data, per channel."""

    path: str
    turn: int
    """Which call under the module it was, for layers that run several times."""
    position: int
    """In the order of execution, from 0."""
    samples: int
    shift: Floats
    """(mean of the data - running_mean) / running standard deviation."""
    shift_bound: Floats
    """Lower bound of its absolute value, at the confidence of the run; 0 where it may be none."""
    log_scale: Floats
    """log(variance of the data / running_var)."""
    log_scale_bound: Floats
    """Lower bound of its absolute value."""
    spread: Floats
    """Variance of per-sample means over the whole variance: 1 where a sample gives one value."""
    at_initial_values: bool
    """Whether the stored statistics are exactly 0 and 1."""
    norm_layer: bool
    worth: float = inf
    """Samples whose variances would be off by as much as the stored ones, by chance alone."""


@lazy_dataclass()
class Regime:
    """The outputs under one way of normalising, against those in eval mode."""

    name: str
    difference: float
    """Relative L2 difference of the main output to eval mode."""
    flips: float | None
    """Share of decisions that differ from eval mode; None where the output decides nothing."""
    accuracy: float | None
    """Share of right decisions, where labels are given."""
    loss: float | None
    samples: int


@lazy_dataclass()
class NoiseAt:
    """How far outputs under batch statistics scatter at one batch size."""

    batch_size: int
    difference: float | None
    """Relative, to outputs under the statistics of all the data; None where it cannot run."""
    flips: float | None
    effective: float
    """Effective values per channel, of the layer that has the fewest: batch size over spread."""


@lazy_dataclass()
class Closing:
    """How much of the gap closes when one layer alone gets re-estimated statistics."""

    path: str
    share: float


@lazy_dataclass()
class Decisiveness:
    """How clearly the model decides between classes, a hint at the mode its weights know.

    A margin is the difference of the best two scores, in standard deviations over the classes.
    Weights decide most clearly under the statistics that they were trained with. Measured on
    networks for digits: statistics lost 0.8 against 2.1, 4 % of the initial value left 1.8
    against 2.1, healthy 2.07 against 2.07, trained in eval mode 1.0 against 0.5.
    """

    stored: float
    """Median margin in eval mode."""
    given: float
    """Median margin under re-estimated statistics."""
    t: float
    """Mean of the paired differences (given - stored) over its standard error."""
    margin_t: float = 0.0
    """The same of the margins in scores, not in deviations: whether the scores grow as well."""
    entropy_t: float = 0.0
    """The same of (entropy stored - entropy given), in nats."""
    vague: float = 0.0
    """Mean entropy under re-estimated statistics, in parts of that of guessing."""


@lazy_dataclass()
class Exchanged:
    """Answers where only the norms that are off get re-estimated statistics."""

    healed: int
    """Labelled samples that are wrong in eval mode and right then."""
    harmed: int
    """Labelled samples that are right in eval mode and wrong then."""
    calibrated_t: float
    """Paired t of the losses, each set of scores at its best temperature."""
    expected_gain: float
    """Share of the samples by which right answers are expected to become more."""


@lazy_dataclass(eq=False)
class AgainstData:
    """The stored statistics and outputs against the user's data."""

    drifts: tuple[Drift, ...]
    """Under batch propagation: each layer shows its own error only."""
    regimes: tuple[Regime, ...]
    """``eval``, ``re-estimated``, ``batch``, ``train``; those that could be run."""
    effect: float | None
    """Difference of eval to batch outputs over that between two sets of companions."""
    healed: int | None
    """Labelled samples that are wrong in eval mode and right under re-estimated statistics."""
    harmed: int | None
    """Labelled samples that are right in eval mode and wrong under re-estimated statistics."""
    train_healed: int | None
    """Labelled samples that are wrong in eval mode and right in train mode."""
    train_harmed: int | None
    """Labelled samples that are right in eval mode and wrong in train mode."""
    loss_t: float | None
    """Mean of (loss in eval mode - loss under re-estimated statistics) over its standard error,
    each sample's difference clipped, so that a few confident mistakes do not decide."""
    decisiveness: Decisiveness | None
    closings: tuple[Closing, ...]
    noise: tuple[NoiseAt, ...]
    residual: float
    """What one more round of re-estimation would still move, in standard deviations."""
    domains: float | None
    """Separation of two groups of samples at the first norm, in standard deviations."""
    notes: tuple[str, ...] = ()
    answers: Answers | None = None
    """In eval mode; None without labels of single decisions."""
    given_answers: Answers | None = None
    """Under re-estimated statistics."""
    skill: Skill | None = None
    """In eval mode; None without labels of numbers or of many decisions a sample."""
    given_skill: Skill | None = None
    """Under re-estimated statistics."""
    other_code: OtherCode | None = None
    input_map: InputMap | None = None
    """Another input than the one that was fed, under which all norms fit."""
    first_map: InputMap | None = None
    """That under which the first norm alone does, where there is none for all."""
    calibrated_t: float | None = None
    """``loss_t`` of scores that are divided by the best temperature; None without classes."""
    expected_gain: float | None = None
    """Share of the samples by which right answers are expected to become more under re-estimated
    statistics, by both sets of scores; None without one label of a class for each."""
    first_leftover: float | None = None
    """What no input explains of the first norm's means, root mean square in deviations."""
    other_content: OtherContent | None = None
    """The kind of images that the first norm's statistics are of, where the data are of another."""
    not_finite: float = 0.0
    """Share of the values of the main output that are NaN or infinite, in eval mode."""
    exchanged: Exchanged | None = None
    """None without labels of one class for each sample, where no norm is off, and of
    models that draw random numbers in eval mode."""

    def regime(self, name: str) -> Regime | None:
        """One of the regimes; None where it was not run."""
        return next((regime for regime in self.regimes if regime.name == name), None)


@lazy_dataclass(eq=False)
class Run:
    """All that running a model showed."""

    fed: Fed
    mechanics: Mechanics
    against_data: AgainstData | None
    """None on made-up input."""
    forwards: int
    seconds: float
    notes: tuple[str, ...] = field(default=())
    """How the model came about."""
    dry: bool = False
    """Whether the data were left out, and only what they cost was told."""
    on_fields: DecidedOnFields | None = None
    """On made-up input of images what decisions change by; None where that was not tried."""
