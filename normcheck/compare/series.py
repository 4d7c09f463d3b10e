"""Checkpoints of one model, measured one after another: memory does not grow with their number."""

from collections.abc import Sequence
from dataclasses import replace

from normcheck.compare.exports.export_match import ExportMatch
from normcheck.compare.exports.export_pair import ExportedPair
from normcheck.compare.model_pairing import chosen, partners
from normcheck.compare.model_track import Track, sibling_moved
from normcheck.compare.movement import Comparison
from normcheck.compare.pair_outputs import Ran
from normcheck.errors import NormcheckError, UnreadableError, UsageError
from normcheck.findings import Failure
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.run_request import named
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.sources.limits import Limits
from normcheck.sources.place import Place

_ONE_MODEL = (
    "diff compares checkpoints of one model; the outputs of any two it compares with --data, or "
    "--run, and --model OLD,NEW; 'normcheck scan' judges each file by itself"
)


class Series:
    """What has been measured so far; one file is read, compared and closed before the next.

    Args:
        limits: For reading.
        ranks: Whether the files are ranks of one step: each is held against the first.
        where: Which model to compare where a file holds several: one place for all files, or
            one for each; empty for all.
    """

    def __init__(self, limits: Limits, where: tuple[str, ...], *, ranks: bool) -> None:
        """Start with no file."""
        self.tracks: list[Track] = []
        self.errors: list[Failure] = []
        """Files that could not be read or compared."""
        self.files: list[str] = []
        """All that was read."""
        self.match: ExportMatch | None = None
        """Of a model and its export."""
        self.ran = Ran(None)
        """What the models of two checkpoints gave on the same data."""
        self.exported = Ran(None)
        """The same of a model and its export."""
        self._limits = limits
        self._where = where
        self._ranks = ranks

    def take(self, pair: ExportedPair) -> None:
        """Go on with a model and its export, in the place of what was measured."""
        self.tracks, self.match, self.exported = [pair.track], pair.match, pair.ran

    def read(self, path: Place, number: int) -> None:
        """Add one file to the comparison; what fails becomes an entry of ``errors``."""
        self.files.append(str(path))
        try:
            checkpoint = read_checkpoint(path, self._limits)
        except NormcheckError as error:
            self.errors.append(Failure(str(path), error.message, error.hint))
            return
        except MemoryError:
            self.errors.append(Failure(str(path), f"{path}: not enough memory to read it"))
            return
        self.files += checkpoint.files
        try:
            models = checkpoint.models
            if self._where:
                place = self._where[min(number, len(self._where) - 1)]
                models = (chosen(checkpoint.name, models, place),)
            if self.tracks:
                self._follow(checkpoint, models)
            else:
                self.tracks = [Track.begin(checkpoint, model) for model in models]
        except UnreadableError as error:
            says_which = str(path) in error.message
            message = error.message if says_which else f"{path}: {error.message}"
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

    @property
    def renamed_weights(self) -> bool:
        """Whether both ends of a pair hold weights that the other does not."""
        return any(all(track.unmatched) for track in self.tracks if track.steps)

    def _follow(self, checkpoint: Checkpoint, models: Sequence[SavedModel]) -> None:
        found = partners([track.model for track in self.tracks], models)
        joined = False
        for track, model in zip(self.tracks, found, strict=True):
            if model is not None and track.follow(checkpoint, model, ranks=self._ranks):
                joined = True
            else:
                track.notes.append(f"{checkpoint.name} has no such model")
        if not joined:
            first = self.tracks[0].sides[0].target
            raise UnreadableError(
                f"its tensors have not the names and shapes of those in {first}", _ONE_MODEL
            )
        left = named(model.where for model in models if model not in found)
        if left:
            note = f"{checkpoint.name} also has {left:.200}, not compared (--where chooses)"
            self.tracks[0].notes.append(note)

    def compared(self) -> list[tuple[Track, Comparison]]:
        """The models that several files have in common, each with what moved.

        Raises:
            UsageError: There is none, though all files could be read.
        """
        tracks = [track for track in self.tracks if track.steps]
        if not tracks and not self.errors:
            raise UsageError("the files have no model in common", _ONE_MODEL)
        for track in self.tracks:
            if tracks and not track.steps:
                side = track.sides[0]
                tracks[0].notes.append(f"'{side.where}' of {side.target} is in no other file")
        match = self._match()
        found = [track.comparison(ranks=self._ranks, match=match) for track in tracks]
        whole = [
            replace(
                c,
                sibling_moved=sibling_moved(c, found),
                outputs=self.ran.outputs,
                not_run=self.ran.not_run,
            )
            for c in found
        ]
        return list(zip(tracks, whole, strict=True))

    def _match(self) -> ExportMatch | None:
        """What became of norms that were folded, with the outputs that were compared apart."""
        if self.match is None or (self.ran.outputs is None and not self.ran.not_run):
            return self.match
        return replace(self.match, outputs=self.ran.outputs, not_run=self.ran.not_run)
