"""One comparison: read each checkpoint once, measure, judge. The whole flow on one page."""

import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from normcheck.compare.export_pair import exported_pair, fused_pair, may_be_export
from normcheck.compare.model_pairing import chosen, partners
from normcheck.compare.model_track import Track, sibling_moved
from normcheck.compare.movement import Comparison
from normcheck.compare.pair_outputs import Ran, pair_outputs
from normcheck.config.settings import Settings
from normcheck.errors import NormcheckError, UnreadableError, UsageError
from normcheck.findings import Failure, Finding, Skipped, Suppressed
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.safetensors_file import natural_order
from normcheck.formats.targets import expand
from normcheck.live.run_request import Running
from normcheck.pipeline.given import not_settings, paths_in
from normcheck.pipeline.suppress import Sieve
from normcheck.report.diff_report import Diff
from normcheck.report.report import ModelReport, Report, summarise
from normcheck.rules.rule import CannotTell, Need, Subject
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.sources.place import Place, shown
from normcheck.version import VERSION

if TYPE_CHECKING:
    from normcheck.compare.export_match import ExportMatch


def diff(
    targets: Iterable[str | Path],
    settings: Settings | None = None,
    *,
    ranks: bool = False,
    where: Sequence[str] = (),
    running: Running | None = None,
) -> Diff:
    """Compare two checkpoints of a model, or a series of them, layer by layer.

    Nothing of the files' own code runs, and torch is not imported. Files are read one after
    another; memory does not grow with their number.

    Args:
        targets: Files in the order in which they came about; a folder or pattern stands for
            its files, ordered by the numbers in their names.
        settings: What to check; by default every rule that compares.
        ranks: Take the files as ranks of one step: each is held against the first.
        where: Which model to compare where a file holds several: one place for all files, or
            one for each.
        running: Of two files: how to run both, so that their outputs on the same data are
            compared. torch is imported then.

    Returns:
        The comparisons and the report. A file that could not be read is one of the report's
        ``errors``; the others are compared all the same where two are left.

    Raises:
        UsageError: Fewer than two files, or no model in common; or what is no path.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise not_settings(settings)
    words = paths_in(targets, "diff compares")
    run = _Run(settings or Settings(), ranks, tuple(where))
    files = list(_files(words, run.settings.redirects, run.errors))
    if len(files) < 2 and not run.errors:
        raise UsageError(
            f"diff compares two checkpoints or more, {len(files)} given",
            "name them in the order in which they came about: normcheck diff OLD NEW",
        )
    if len(run.where) > 1 and len(run.where) != len(files):
        raise UsageError(
            f"--where is given {len(run.where)} times for {len(files)} files",
            "name one place for all files, or one for each in their order",
        )
    local = [file for file in files if isinstance(file, Path)]
    if len(files) == len(local) == 2 and not ranks and any(map(may_be_export, local)):
        pair = exported_pair(local, run.settings.limits, run.where, running)
        if pair is not None:
            run.tracks, run.match = [pair.track], pair.match
            run.files += pair.files
            return run.result()
    if running is not None and (ranks or not len(files) == len(local) == 2):
        raise UsageError(
            "outputs are compared of two files on this machine",
            "name two, without --ranks; normcheck scan runs one on data",
        )
    for number, file in enumerate(files):
        run.read(file, number)
    if len(files) == len(local) == 2 and not ranks and (run.lost_norms or run.unlike):
        pair = fused_pair(local, run.settings.limits, run.where)
        if pair is not None:
            run.tracks, run.match, run.errors = [pair.track], pair.match, []
    if running is not None and not run.errors:
        run.ran = pair_outputs(local, run.settings.limits, run.where, running)
    return run.result()


def _files(words: list[str], redirects: tuple[str, ...], errors: list[Failure]) -> Iterator[Place]:
    for word in words:
        try:
            found = [target.path for target in expand([word], redirects)]
        except UnreadableError as error:
            errors.append(Failure(shown(word), error.message, error.hint))
            continue
        # epoch-2 comes before epoch-10.
        yield from sorted(found, key=lambda path: natural_order(str(path)))


class _Run:
    """What has been measured so far; one file is read, compared and closed before the next."""

    def __init__(self, settings: Settings, ranks: bool, where: tuple[str, ...]) -> None:
        self.settings = settings
        self.ranks = ranks
        self.where = where
        self.tracks: list[Track] = []
        self.findings: list[Finding] = []
        self.skipped: list[Skipped] = []
        self.errors: list[Failure] = []
        self.sieve = Sieve(settings)
        self.files: list[str] = []
        self.match: ExportMatch | None = None
        """Of a model and its export."""
        self.ran = Ran(None)
        """What the models of two checkpoints gave on the same data."""

    def read(self, path: Place, number: int) -> None:
        """Add one file to the comparison; what fails becomes an entry of ``errors``."""
        self.files.append(str(path))
        try:
            checkpoint = read_checkpoint(path, self.settings.limits)
        except NormcheckError as error:
            self.errors.append(Failure(str(path), error.message, error.hint))
            return
        except MemoryError:
            self.errors.append(Failure(str(path), f"{path}: not enough memory to read it"))
            return
        self.files += checkpoint.files
        try:
            models = checkpoint.models
            if self.where:
                place = self.where[min(number, len(self.where) - 1)]
                models = (chosen(checkpoint.name, models, place),)
            if self.tracks:
                self._follow(checkpoint, models)
            else:
                self.tracks = [Track.begin(checkpoint, model) for model in models]
        except UnreadableError as error:
            named = str(path) in error.message
            message = error.message if named else f"{path}: {error.message}"
            self.errors.append(Failure(str(path), message, error.hint))
        except MemoryError:
            self.errors.append(Failure(str(path), f"{path}: not enough memory to compare it"))
        finally:
            checkpoint.close()

    @property
    def unlike(self) -> bool:
        """Whether both files were read, and have no tensor in common."""
        return bool(self.errors) and all(error.hint == _ONE_MODEL for error in self.errors)

    @property
    def lost_norms(self) -> bool:
        """Whether norms with statistics are in one of two files only."""
        return any(
            layer.has_statistics
            for track in self.tracks
            for one, other in ((track.first, track.last), (track.last, track.first))
            for path, layer in one.layers.items()
            if path not in other.layers or not other.layers[path].has_statistics
        )

    def _follow(self, checkpoint: Checkpoint, models: Sequence[SavedModel]) -> None:
        found = partners([track.model for track in self.tracks], models)
        joined = False
        for track, model in zip(self.tracks, found, strict=True):
            if model is not None and track.follow(checkpoint, model, ranks=self.ranks):
                joined = True
            else:
                track.notes.append(f"{checkpoint.name} has no such model")
        if not joined:
            first = self.tracks[0].sides[0].target
            raise UnreadableError(
                f"its tensors have not the names and shapes of those in {first}", _ONE_MODEL
            )
        left = ", ".join(repr(m.where) for m in models if m.where and m not in found)
        if left:
            note = f"{checkpoint.name} also has {left:.200}, not compared (--where chooses)"
            self.tracks[0].notes.append(note)

    def result(self) -> Diff:
        """The comparisons with what rules find in them."""
        tracks = [track for track in self.tracks if track.steps]
        if not tracks and not self.errors:
            raise UsageError("the files have no model in common", _ONE_MODEL)
        for track in self.tracks:
            if tracks and not track.steps:
                side = track.sides[0]
                tracks[0].notes.append(f"'{side.where}' of {side.target} is in no other file")
        comparisons = [track.comparison(ranks=self.ranks) for track in tracks]
        comparisons = [
            replace(
                c,
                sibling_moved=sibling_moved(c, comparisons),
                match=self._with_outputs(self.match),
                outputs=self.ran.outputs,
                not_run=self.ran.not_run,
            )
            for c in comparisons
        ]
        models = []
        for track, comparison in zip(tracks, comparisons, strict=True):
            before = len(self.sieve.suppressed)
            found = self._judge(track, comparison)
            self.findings.extend(found)
            need = Need.PAIR if comparison.match is None else Need.EXPORT
            codes = tuple(rule.code for rule in self.settings.rules if rule.need is need)
            models.append(_listed(track, found, self.sieve.suppressed[before:], codes))
        report = Report(
            VERSION,
            tuple(models),
            tuple(self.findings),
            tuple(self.sieve.suppressed),
            tuple(self.skipped),
            tuple(self.errors),
            self.sieve.unused(),
            self.settings.rules,
            self.settings.fail_on,
        )
        return Diff(tuple(comparisons), report, tuple(self.files))

    def _with_outputs(self, match: "ExportMatch | None") -> "ExportMatch | None":
        """What became of norms that were folded, with the outputs that were compared apart."""
        if match is None or (self.ran.outputs is None and not self.ran.not_run):
            return match
        return replace(match, outputs=self.ran.outputs, not_run=self.ran.not_run)

    def _judge(self, track: Track, comparison: Comparison) -> list[Finding]:
        side = comparison.sides[-1]
        subject = Subject(track.last.anatomy, alone=not side.where, pair=comparison)
        found: list[Finding] = []
        for rule in self.settings.rules:
            if rule.need is not (Need.PAIR if comparison.match is None else Need.EXPORT):
                continue
            try:
                found += (
                    replace(finding, model=side.target, where=side.where)
                    for finding in rule.judge(subject)
                )
                self.sieve.ran(side.target, (rule.code,))
            except CannotTell as outcome:
                self.skipped.append(Skipped(side.target, side.where, rule.code, str(outcome)))
            except Exception as error:  # a rule that breaks must not end the comparison
                message = f"rule {rule.code} failed: {type(error).__name__}: {error}"
                hint = "this is a bug in normcheck; please report it"
                trace = traceback.format_exc()
                where = side.where
                self.errors.append(Failure(side.target, message, hint, rule.code, where, trace))
        return sorted(
            self.sieve.kept(found), key=lambda f: (-f.severity.rank, f.rule, f.discriminator)
        )


def _listed(
    track: Track, found: list[Finding], suppressed: Sequence[Suppressed], rules: tuple[str, ...]
) -> ModelReport:
    """The last checkpoint's model, as a scan would list it."""
    side, anatomy = track.sides[-1], track.last.anatomy
    return ModelReport(
        target=side.target,
        where=side.where,
        format=side.format,
        form=side.form,
        size=side.size,
        class_path=anatomy.class_path,
        tensors=anatomy.tensor_count,
        layers=tuple(summarise(layer, found, suppressed) for layer in anatomy.layers),
        rules=rules,
        notes=tuple(track.notes),
    )


_ONE_MODEL = "diff compares checkpoints of one model; 'normcheck scan' judges each file by itself"
