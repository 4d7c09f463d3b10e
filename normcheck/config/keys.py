"""The words of a configuration file: each key with its form, its default and its meaning.

Those that are flags, too, are made from their declarations. The parser, its suggestions and the
table in the documentation are made from these.
"""

from collections.abc import Iterator

from normcheck.config.flags.flag import Declared, flags_of
from normcheck.config.flags.flag import FileKey as Form
from normcheck.config.flags.running_flags import Probing, RunFlags
from normcheck.config.flags.settings_flags import Configuration, Judging, OutputFlags
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Key:
    """One key of one table."""

    name: str
    """In kebab case."""
    form: str
    """What its value looks like, in words."""
    default: str
    """As it would stand in the file."""
    meaning: str
    reads: str = ""
    """How its value is read; empty for a table that is read by itself."""
    field: str = ""
    """The field of the group that declares it."""
    choices: tuple[str, ...] = ()


def keys_of(*groups: type) -> Iterator[Key]:
    """What flags are called at the top of a file, of those that can stand there."""
    for entry in flags_of(*groups):
        if entry.flag.key:
            yield _named(entry, entry.flag.key)


def model_keys_of(*groups: type) -> Iterator[Key]:
    """What flags are called in an entry for some models, of those that can stand there."""
    for entry in flags_of(*groups):
        if entry.flag.model_key:
            yield _named(entry, entry.flag.model_key)


def _named(entry: Declared, form: Form) -> Key:
    return Key(
        entry.key, form.form, form.default, form.meaning, form.reads, entry.field,
        entry.flag.choices,
    )  # fmt: skip


TOP = (
    *keys_of(Judging, OutputFlags),
    Key("models", "table of tables by pattern", "{}", "settings of some models, see below"),
    Key("per-layer-ignores", "table by pattern", "{}", "findings on layers that are as wanted"),
    Key("rules", "table of tables by rule", "{}", "severity and thresholds of a rule"),
)

MODEL = tuple(model_keys_of(Judging, RunFlags, Probing))

IGNORE = (
    Key("rules", "list of selectors", "", "the rules that are ignored on these layers"),
    Key("reason", "text", '""', "why; every output shows it"),
)

ENVIRONMENT = {
    f"NORMCHECK_{entry.key.upper().replace('-', '_')}": entry.name
    for entry in flags_of(Configuration, Judging, OutputFlags)
    if entry.flag.variable
}
"""Variables that CI sets, and the flags that they stand for; a flag wins."""
