"""Writes what is generated: rule pages, parts of the README, the table of sample models.

Run as ``python docs/generate.py``; with ``--check`` it writes nothing and fails where a file
is out of date, with ``--rules`` only what follows from the rules alone is made, in a second.
A part of a file lies between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normcheck.config.keys import Key

ROOT = Path(__file__).resolve().parent.parent
WITH_PARTS = (
    "README.md",
    "docs/ci.md",
    "docs/commands.md",
    "docs/configuration.md",
    "docs/diff.md",
    "docs/exports.md",
    "docs/fix.md",
    "docs/index.md",
    "docs/running.md",
    "sample_models/README.md",
)
"""Files that have generated parts."""
SAMPLE = "sample_models/statistics-lost.pt"
RUN = ("--model", "sample_models.networks:DigitsNet", "--data", "sample_models/digits.npz")
FAMOUS = "sample_models/trained-in-eval-mode.pt"
FAMOUS_RUN = ("--model", "sample_models.networks:deep_digits", "--data", "sample_models/digits.npz")
PAIR = ("sample_models/digits-healthy.pt", SAMPLE)
ON_FIELDS = ("--model", "sample_models.networks:DigitsNet", "--run", "--input-shape", "1x8x8")
EXPORT = "sample_models/exported-in-train-mode.pt2"
EXPORTED = ("sample_models/digits-healthy.pt", "sample_models/digits-healthy.pt2")
SERIES = (
    "sample_models/too-few-batches.pt",
    "sample_models/too-few-batches-mild.pt",
    "sample_models/digits-healthy.pt",
)
MEASURED = frozenset(
    ("data", "famous", "fix", "fix refused", "fix without data", "diff decisions", "export diff")
)
"""Parts with numbers of a run, whose last digits depend on the processor."""
NEEDS = {
    "state": "any file",
    "modules": "a whole module",
    "run": "a run",
    "data": "your data",
    "pair": "two checkpoints",
    "export": "a model and its export",
    "training": "a training loop",
}
"""What a rule needs, in the words of the table."""


def run(*words: str, cwd: Path = ROOT, color: bool = False) -> str:
    """What normcheck prints for these words at 80 columns."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NORMCHECK_")}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        clean.pop(name, None)
    shade = {"FORCE_COLOR": "1"} if color else {"NO_COLOR": "1"}
    environment = {**clean, **shade, "COLUMNS": "80", "PYTHONUTF8": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "normcheck", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode not in (0, 1) or result.stderr:
        raise SystemExit(f"normcheck {' '.join(words)} failed:\n{result.stderr}")
    return result.stdout.rstrip()


def rule_table(folder: str, family: str = "NC") -> str:
    """Rules as a Markdown table, with links to their pages in a folder."""
    from normcheck.rules.catalogue import RULES

    lines = ["| code | name | severity | needs | what it finds |", "|---|---|---|---|---|"]
    lines += [
        f"| [{rule.code}]({folder}{rule.code}.md) | {rule.name} | {rule.severity.value} | "
        f"{NEEDS[rule.need.value]} | {rule.summary} |"
        for rule in RULES
        if rule.code.startswith(family)
    ]
    return "\n".join(lines)


def rule_tables() -> str:
    """The same for the site: a table for each family."""
    from normcheck.rules.catalogue import FAMILIES

    return "\n\n".join(
        f"## {family} {title}\n\n{rule_table('', family)}" for family, title in FAMILIES.items()
    )


def key_table(keys: "Sequence[Key]") -> str:
    """Keys of a table of the configuration."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{key.name}` | {key.form} | {f'`{key.default}`' if key.default else 'required'} | "
        f"{key.meaning} |"
        for key in keys
    ]
    return "\n".join(lines)


def rule_index() -> str:
    """The module that tells of rules whose files a scan of files need not read."""
    import normcheck.rules

    home = Path(str(normcheck.rules.__file__)).parent
    lines = [
        '"""What files say of their rules, for rules that see more than a file; generated."""',
        "",
        "INDEX = (",
    ]
    for folder in ("behaviour", "data", "between", "training"):
        for path in sorted((home / folder).glob("[!_]*.py")):
            rule = getattr(import_module(f"normcheck.rules.{folder}.{path.stem}"), "RULE", None)
            if rule is not None:
                told = (rule.code, rule.name, rule.summary, rule.severity.value, rule.need.value)
                words = [*told, folder]
                lines += ["    (", *(f"        {json.dumps(word)}," for word in words), "    ),"]
    return "\n".join([*lines, ")", ""])


def option_table() -> str:
    """Options of all rules."""
    from normcheck.rules.catalogue import RULES

    lines = ["| rule | option | default | unit | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| [{rule.name}](rules/{rule.code}.md) | `{option.name}` | {option.default:g} | "
        f"{option.unit} | {option.meaning} |"
        for rule in RULES
        for option in rule.options
    ]
    return "\n".join(lines)


def environment_table() -> str:
    """Variables of the environment."""
    from normcheck.config.keys import ENVIRONMENT

    lines = ["| variable | stands for |", "|---|---|"]
    lines += [f"| `{variable}` | `{flag}` |" for variable, flag in ENVIRONMENT.items()]
    lines += [
        "| `NO_COLOR`, `FORCE_COLOR` | colour of text off or on; `NO_COLOR` wins |",
        "| `COLUMNS` | width of text |",
    ]
    return "\n".join(lines)


def project_urls() -> str:
    """The addresses of the project, for an index."""
    from normcheck.version import REPOSITORY

    pages = {
        "Homepage": "",
        "Documentation": "/tree/main/docs",
        "Repository": "",
        "Changelog": "/blob/main/CHANGELOG.md",
        "Security": "/blob/main/SECURITY.md",
        "Issues": "/issues",
    }
    return "\n".join(
        ["[project.urls]", *(f'{name} = "{REPOSITORY}{page}"' for name, page in pages.items())]
    )


def navigation() -> str:
    """The rule pages in the menu of the site, by family."""
    from normcheck.rules.catalogue import FAMILIES, RULES

    lines = []
    for family, title in FAMILIES.items():
        lines.append(f'      - "{family} {title}":')
        lines += [
            f"          - {rule.code} {rule.name}: rules/{rule.code}.md"
            for rule in RULES
            if rule.code.startswith(family)
        ]
    return "\n".join(lines)


def kinds_table() -> str:
    """The table of knowledge in Markdown."""
    from normcheck.norms.kinds import KINDS

    lines = [
        "| kind | normalises over | eval mode uses | both modes equal | suits |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {kind.name} | {kind.over} | {kind.eval_uses} | "
        f"{'yes' if kind.same_in_both_modes else 'no'} | {kind.suits} |"
        for kind in KINDS
        if kind.name not in ("BatchNorm", "LayerNorm or GroupNorm", "custom norm")
    ]
    return "\n".join(lines)


def sample_table() -> str:
    """The sample models: what is wrong, what it costs, and what normcheck says."""
    report = json.loads(run("scan", "sample_models", "--format", "json"))
    found: dict[str, list[str]] = {}
    for finding in report["findings"]:
        if finding["severity"] != "info":
            file = Path(finding["model"]).name
            found.setdefault(file, []).append(f"{finding['rule']} {finding['name']}")
    lines = [
        "| file | what is wrong | accuracy in eval mode | with batch statistics | normcheck says |",
        "|---|---|---|---|---|",
    ]
    for entry in json.loads((ROOT / "sample_models/manifest.json").read_text(encoding="utf-8")):
        batch = entry["accuracy_batch"]
        says = ", ".join(sorted(set(found.get(entry["file"], [])))) or "nothing"
        lines.append(
            f"| {entry['file']} | {entry['what']} | {entry['accuracy_eval']:.3f} | "
            f"{'–' if batch is None else f'{batch:.3f}'} | {says} |"
        )
    return "\n".join(lines)


def cost() -> str:
    """What the fault of the sample in the README costs, as it was measured."""
    manifest = json.loads((ROOT / "sample_models/manifest.json").read_text(encoding="utf-8"))
    entry = next(e for e in manifest if e["file"] == Path(SAMPLE).name)
    return (
        f"With the right statistics this network recognises {entry['accuracy_batch']:.0%} of "
        f"unseen digits. As saved, in eval mode, {entry['accuracy_eval']:.0%}."
    )


def console(*words: str) -> str:
    """A command and what it prints, as a reader would see it."""
    return f"```console\n$ normcheck {' '.join(words)}\n{run(*words)}\n```"


def decisions(text: str) -> str:
    """The part of a comparison on decisions, and that there is more."""
    blocks = text.split("\n\n")
    return f"…\n\n{next(b for b in blocks if 'decisions that differ' in b)}\n\n…"


def picture(*words: str) -> str:
    """A command and what it prints, in colour as a terminal shows it, as SVG without its font."""
    from rich.console import CONSOLE_SVG_FORMAT, Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(
        record=True, width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        legacy_windows=False, highlight=False,
    )  # fmt: skip
    console.print(Text.assemble(("$ ", "bold green"), (f"normcheck {' '.join(words)}", "bold")))
    console.print(Text.from_ansi(run(*words, color=True)))
    # The font would come from another host; each line has the length that it has to have.
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(
        title="", theme=MONOKAI, code_format=form, unique_id="run", font_aspect_ratio=0.61
    )
    label = f"{words[0]} of a sample: six batch norm layers were never updated"
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return "".join(f"{line.rstrip()}\n" for line in svg.splitlines() if line.strip())


def repair(model: str, rest: tuple[str, ...] = RUN[2:]) -> str:
    """A repair of a sample, in a folder that goes away with what it writes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sample_models").symlink_to(ROOT / "sample_models")
        said = run("fix", model, *RUN[:2], *rest, "-o", "fixed.pt", cwd=Path(folder))
    return (
        f"```console\n$ normcheck fix {model} \\\n    {' '.join(RUN[:2])} \\\n    "
        f"{' '.join(rest)} -o fixed.pt\n{said}\n```"
    )


def alike(old: str, new: str) -> bool:
    """Whether two outputs of a run are the same but for how another processor rounds.

    Numbers may differ by 2 %, or by one in the last place where a sum was rounded to it; those that
    are rounding themselves, as residuals, by any factor. The rest is the same but for blanks.
    """
    texts = [re.sub(r"[ \n]+", " ", _NUMBER.sub("#", text)) for text in (old, new)]
    numbers = [_NUMBER.findall(text) for text in (old, new)]
    return texts[0] == texts[1] and all(map(_close, *numbers))


_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?: ?%)?")


def _close(old: str, new: str) -> bool:
    a, b = (float(number.rstrip(" %").replace(",", "")) for number in (old, new))
    places = len(old.rstrip(" %").partition(".")[2])
    rounded = "%" in old or places
    last_place = 1.01 * 10.0**-places if rounded and "e" not in old else 0.0
    return abs(a - b) <= max(0.02 * max(a, b), last_place, _ROUNDING)


_ROUNDING = 1e-5


def parts_of_rules() -> dict[str, str]:
    """The generated parts that follow from the rules alone, by name."""
    return {"rules": rule_table("docs/rules/"), "options": option_table()}


def parts() -> dict[str, str]:
    """The generated parts by name."""
    from normcheck.config.keys import MODEL, TOP

    return parts_of_rules() | {
        "run": f"```console\n$ normcheck scan {SAMPLE}\n{run('scan', SAMPLE)}\n```",
        "data": (
            f"```console\n$ normcheck scan {SAMPLE} \\\n    {' '.join(RUN[:2])} \\\n    "
            f"{' '.join(RUN[2:])}\n{run('scan', SAMPLE, *RUN)}\n```"
        ),
        "famous": (
            f"```console\n$ normcheck scan {FAMOUS} \\\n    {' '.join(FAMOUS_RUN[:2])} \\\n    "
            f"{' '.join(FAMOUS_RUN[2:])}\n{run('scan', FAMOUS, *FAMOUS_RUN)}\n```"
        ),
        "fix": repair(SAMPLE),
        "fix refused": repair("sample_models/never-updated-trained-in-eval.pt"),
        "fix without data": repair(
            "sample_models/statistics-partly-lost.pt", ("--without-data", "--input-shape", "1x8x8")
        ),
        **{
            f"{command} help": console(command, "--help")
            for command in ("scan", "diff", "fix", "rule", "kinds")
        },
        "diff": console("diff", *PAIR),
        "diff series": console("diff", *SERIES),
        "diff decisions": (
            f"```console\n$ normcheck diff {' '.join(PAIR)} \\\n    {' '.join(ON_FIELDS)}\n"
            f"{decisions(run('diff', *PAIR, *ON_FIELDS))}\n```"
        ),
        "export": console("scan", EXPORT),
        "export diff": (
            f"```console\n$ normcheck diff {' '.join(EXPORTED)} \\\n    {' '.join(RUN[:2])} \\\n"
            f"    {' '.join(RUN[2:])}\n{run('diff', *EXPORTED, *RUN)}\n```"
        ),
        "cost": cost(),
        "keys": key_table(TOP),
        "model-keys": key_table(MODEL),
        "environment": environment_table(),
        "kinds": kinds_table(),
        "samples": sample_table(),
    }


def generated(*, rules_only: bool) -> dict[Path, str]:
    """Every generated file with what should be in it."""
    from normcheck.rules.catalogue import RULES
    from normcheck.rules.page import markdown_page

    files = {
        ROOT / f"docs/rules/{rule.code}.md": (
            f"# {rule.code} {rule.name}\n\n{markdown_page(rule)}\n"
        )
        for rule in RULES
    }
    files[ROOT / "docs/rules/index.md"] = f"# Rules\n\n{rule_tables()}\n"
    if not rules_only:
        files[ROOT / "docs/figures/run.svg"] = picture("scan", "--quiet", SAMPLE)
    contents = parts_of_rules() if rules_only else parts()
    for name in WITH_PARTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for part, content in contents.items():
            text = re.sub(
                rf"(<!-- generated: {part} -->\n)(.*?)(<!-- end -->)",
                lambda match, part=part, content=content: (
                    match[0]
                    if part in MEASURED and alike(match[2], f"{content}\n")
                    else f"{match[1]}{content}\n{match[3]}"
                ),
                text,
                flags=re.DOTALL,
            )
        files[ROOT / name] = text
    for name, part, content in (
        ("mkdocs.yml", "nav", navigation()),
        ("pyproject.toml", "urls", project_urls()),
    ):
        path = ROOT / name
        files[path] = re.sub(
            rf"( *# generated: {part}\n).*?( *# end\n)",
            lambda match, content=content: f"{match[1]}{content}\n{match[2]}",
            path.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
    return files


def main() -> int:
    """Write the files, or say which are out of date."""
    check = "--check" in sys.argv[1:]
    index = ROOT / "normcheck/rules/index.py"
    files = {index: rule_index()}
    if not check:
        # First of all: the catalogue, from which the rest comes, knows new rules by it.
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text(files[index], encoding="utf-8")
    files |= generated(rules_only="--rules" in sys.argv[1:])
    stale = [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    orphans = sorted(set((ROOT / "docs/rules").glob("*.md")) - set(files))
    for path in stale if not check else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    for path in orphans if not check else ():
        path.unlink()
    for path in (*stale, *orphans):
        print(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}")
    if check and (stale or orphans):
        print("run 'make docs' and commit the result")
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
