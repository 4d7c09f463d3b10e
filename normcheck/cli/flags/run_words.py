"""The flags of a run, in the terms of the run, and what is shown while it lasts."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from normcheck.cli.flags.limit_words import isolation
from normcheck.cli.screen.progress import of_samples
from normcheck.config.flags.flag import flags_of
from normcheck.config.flags.running_flags import Probing, RunFlags
from normcheck.errors import UsageError
from normcheck.live.run_request import SAMPLES, Feeding, Loading, Progress, Running
from normcheck.wording import printable

_REDRAW_SECONDS = 0.1
_SECONDS = 600.0
"""Of the run of one file, where no flag says it."""
_PROBING = Probing()


_WITHOUT_RUN = ("samples", "time_limit")
"""May be given where nothing runs: a script gives them to all its calls."""


def requested(
    words: RunFlags,
    probing: Probing = _PROBING,
    *,
    jobs: int = 1,
    samples: int = SAMPLES,
    more_samples: int = 0,
) -> Running | None:
    """The run that the flags ask for; None where they ask for none.

    Args:
        words: The flags of every run.
        probing: Those of a run that is only looked at.
        jobs: How many files run at once and share the memory.
        samples: How many are used where no flag says it.
        more_samples: How many where those leave open what statistics do, and no flag says it.

    Raises:
        UsageError: A flag cannot be understood, or has no run to belong to.
    """
    wanted = words.run or words.model or words.data or words.input_shape or words.trust
    if not wanted:
        alone = [
            entry.flag.off or entry.name
            for group in (words, probing)
            for entry in flags_of(type(group))
            if getattr(group, entry.field) != entry.default and entry.field not in _WITHOUT_RUN
        ]
        if alone:
            raise UsageError(
                f"{alone[0]} says how to run, and nothing asks for a run",
                "add --run, --model or --data",
            )
        return None
    return Running(
        loading=Loading(
            words.model, _arguments(words.model_args), words.prefix, words.where, words.trust
        ),
        feeding=Feeding(
            data=words.data or None,
            shapes=words.input_shape,
            batch_size=words.batch_size or 0,
            samples=words.samples or samples,
            more_samples=0 if words.samples else more_samples,
            image_size=_size(words.image_size),
            mean=_numbers("--mean", words.mean),
            std=_numbers("--std", words.std),
        ),
        device=words.device,
        autocast="" if words.autocast == "off" else words.autocast,
        trust_config=words.trust_config,
        isolation=isolation(
            _SECONDS if words.time_limit is None else words.time_limit,
            probing.memory_limit,
            jobs=jobs,
            off=not probing.isolation,
        ),
    )


def _arguments(text: str) -> Mapping[str, Any] | list[Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--model-args: not JSON: {error}", """for example --model-args '{"classes": 10}'"""
        ) from error
    if not isinstance(value, dict | list):
        raise UsageError("--model-args: neither an object nor a list", "put it in [ ]")
    return value


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    words = text.lower().replace(",", "x").split("x")
    if len(words) > 2 or not all(w.strip().isdecimal() and int(w) > 0 for w in words):
        raise UsageError(f"--image-size {text}: not a size", "height and width, as 224 or 224x320")
    return int(words[0]), int(words[-1])


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(
            f"{flag} {text}: not numbers", f"for example {flag} 0.485,0.456,0.406"
        ) from error


@contextmanager
def progress(quiet: bool) -> Iterator[tuple[Progress, Callable[[str], None]]]:
    """A line on stderr that says what is being done, where stderr is a terminal.

    Yields:
        What to call with the step and the samples that were run; and what to call with a
        sentence that the user has to see whatever happens.
    """
    shown = sys.stderr.isatty() and not quiet
    state = {"samples": 0, "coming": 0, "at": 0.0, "start": time.monotonic()}

    def tick(what: str, samples: int, coming: int = 0) -> None:
        state["samples"] += samples
        state["coming"] += coming
        now = time.monotonic()
        if shown and now - state["at"] > _REDRAW_SECONDS:
            state["at"] = now
            count = of_samples(int(state["samples"]), int(state["coming"]))
            sys.stderr.write(f"\r\033[K{printable(what)}{count} · {now - state['start']:.0f} s")
            sys.stderr.flush()

    def announce(text: str) -> None:
        if shown:
            sys.stderr.write("\r\033[K")
        sys.stderr.write(f"{printable(text)}\n")

    try:
        yield tick, announce
    finally:
        if shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
