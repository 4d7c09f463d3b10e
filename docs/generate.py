"""Writes what is generated: rule pages, parts of the README, the table of sample models.

Run as ``python docs/generate.py``; with ``--check`` it writes nothing and fails where a file
is out of date. A part of a file lies between ``<!-- generated: NAME -->`` and
``<!-- end -->``.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = "sample_models/statistics-lost.pt"
PAIR = ("sample_models/digits-healthy.pt", SAMPLE)
SERIES = (
    "sample_models/too-few-batches.pt",
    "sample_models/too-few-batches-mild.pt",
    "sample_models/digits-healthy.pt",
)
NEEDS = {"state": "any file", "modules": "a whole module", "pair": "two checkpoints"}


def run(*words: str) -> str:
    """What normcheck prints for these words, at 80 columns and without colour."""
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    environment.pop("FORCE_COLOR", None)
    result = subprocess.run(
        [sys.executable, "-m", "normcheck", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode not in (0, 1) or result.stderr:
        raise SystemExit(f"normcheck {' '.join(words)} failed:\n{result.stderr}")
    return result.stdout.rstrip()


def rule_table() -> str:
    """All rules as a Markdown table, with links to their pages."""
    from normcheck.rules.catalogue import RULES

    lines = ["| code | name | severity | needs | what it finds |", "|---|---|---|---|---|"]
    lines += [
        f"| [{rule.code}](docs/rules/{rule.code}.md) | {rule.name} | {rule.severity.value} | "
        f"{NEEDS[rule.need.value]} | {rule.summary} |"
        for rule in RULES
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


def parts() -> dict[str, str]:
    """The generated parts by name."""
    return {
        "run": f"```console\n$ normcheck scan {SAMPLE}\n{run('scan', SAMPLE)}\n```",
        "diff": console("diff", *PAIR),
        "diff series": console("diff", *SERIES),
        "help": f"```console\n$ normcheck scan --help\n{run('scan', '--help')}\n```",
        "cost": cost(),
        "rules": rule_table(),
        "kinds": kinds_table(),
        "samples": sample_table(),
    }


def generated() -> dict[Path, str]:
    """Every generated file with what should be in it."""
    from normcheck.rules.catalogue import RULES

    files = {
        ROOT / f"docs/rules/{rule.code}.md": (f"# {rule.code} {rule.name}\n\n{rule.page.strip()}\n")
        for rule in RULES
    }
    contents = parts()
    for name in ("README.md", "sample_models/README.md", "docs/diff.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for part, content in contents.items():
            text = re.sub(
                rf"(<!-- generated: {part} -->\n).*?(<!-- end -->)",
                lambda match, content=content: f"{match[1]}{content}\n{match[2]}",
                text,
                flags=re.DOTALL,
            )
        files[ROOT / name] = text
    return files


def main() -> int:
    """Write the files, or say which are out of date."""
    check = "--check" in sys.argv[1:]
    files = generated()
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
