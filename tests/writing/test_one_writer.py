"""A law of the code: nothing but ``normcheck.writing`` opens, replaces or removes files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import normcheck

PACKAGE = Path(normcheck.__file__).parent
CHANGES_FILES = frozenset({
    "write_text", "write_bytes", "replace", "rename", "unlink", "remove", "rmdir", "mkdir",
    "makedirs", "touch", "chmod", "chown", "utime", "symlink_to", "hardlink_to", "symlink", "link",
    "mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "truncate",
    "copyfile", "copy2", "copytree", "move", "rmtree", "savez", "tofile", "memmap",
})  # fmt: skip
MODULES_WITH_FILES = frozenset({"os", "shutil", "tempfile", "np", "numpy", "Path", "path"})
ALLOWED = {
    ("process_copy.py", "fdopen"): "stdout and stderr anew, which are open",
    ("cli/main.py", "open"): "os.devnull, in place of streams that are closed",
    **dict.fromkeys(
        [
            ("fleet/cache_seal.py", name)
            for name in ("mkdir", "open", "fdopen", "link", "replace", "unlink")
        ],
        "the key of a cache: whichever process makes it first, that one stays",
    ),
    ("fleet/cache_file.py", "unlink"): "a new database that nothing could be written into",
}


def _calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                owner = node.func.value
                yield owner.id if isinstance(owner, ast.Name) else "", node.func.attr, node
            elif isinstance(node.func, ast.Name):
                yield "", node.func.id, node


def _opens_to_write(owner: str, name: str, call: ast.Call) -> bool:
    if name not in {"open", "fdopen", "FileIO"}:
        return False
    text = ast.unparse(call)
    # The mode stands behind the file, where the file is not what is opened.
    behind = 0 if name == "open" and isinstance(call.func, ast.Attribute) and owner != "os" else 1
    modes = [*call.args[behind : behind + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    words = [m.value for m in modes if isinstance(m, ast.Constant) and isinstance(m.value, str)]
    return any(set(word) & set("wax+") for word in words) or any(
        flag in text for flag in ("O_WRONLY", "O_RDWR", "O_CREAT")
    )


def writes(source: str) -> set[str]:
    """Names of the calls of a module by which files could come to be, change or go."""
    found = set()
    for owner, name, call in _calls(ast.parse(source)):
        # Texts and lists have methods of these names, too.
        shared = name in {"replace", "remove", "link", "copy2", "move", "truncate"}
        changes = name in CHANGES_FILES and (owner in MODULES_WITH_FILES or not shared)
        draws = name == "savefig" and ast.unparse(call.args[0]) != "drawn"  # bytes in memory
        if changes or draws or _opens_to_write(owner, name, call):
            found.add(name)
    return found


def test_nothing_else_writes() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("writing/"):
            continue
        found = writes(path.read_text(encoding="utf-8"))
        assert {f for f in found if (name, f) not in ALLOWED} == set(), name


@pytest.mark.parametrize(
    "line",
    [
        "open('x', 'w')", "Path('x').open(mode='ab')", "path.open('r+b')", "os.open(p, os.O_RDWR)",
        "Path('x').write_text('')", "os.replace(a, b)", "shutil.move(a, b)", "path.unlink()",
        "figure.savefig(file)", "tempfile.mkstemp()", "np.memmap(p)",
    ],
)  # fmt: skip
def test_the_law_finds_it(line: str) -> None:
    assert writes(line)


@pytest.mark.parametrize(
    "line", ["open('x')", "path.open('rb')", "text.replace('a', 'b')", "os.open(p, os.O_RDONLY)"]
)
def test_reading_is_free(line: str) -> None:
    assert not writes(line)
