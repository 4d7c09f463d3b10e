"""Where the configuration file is."""

import os
from pathlib import Path
from typing import Any

from normcheck.errors import ConfigError

NAME = "normcheck.toml"
_WITHOUT = "mend the file, or run with --no-config, which reads no configuration"


def discover(start: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest file upward from a folder, and the table in it that is ours.

    Of two in one folder normcheck.toml wins, as it does nothing else.

    Raises:
        ConfigError: A file on the way that speaks of normcheck cannot be read.
    """
    for folder in (start, *start.parents):
        own = folder / NAME
        if own.is_file():
            return own, read(own)
        project = folder / "pyproject.toml"
        # Most files on the way have nothing for us: a TOML parser need not be loaded, and
        # whatever else may be wrong with them is not our business.
        if project.is_file() and b"normcheck" in _bytes(project):
            table = _table(read(project), project)
            if table is not None:
                return project, table
    return None


def named(path: Path) -> dict[str, Any]:
    """The table of a file that was named outright.

    Raises:
        ConfigError: It is missing or broken, or a pyproject.toml without our table.
    """
    value = read(path)
    if path.name != "pyproject.toml":
        return value
    table = _table(value, path)
    if table is None:
        raise ConfigError(
            f"{path}: there is no table [tool.normcheck]", f"add it, or name a {NAME}"
        )
    return table


def read(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        ConfigError: It is missing, or no TOML.
    """
    import tomllib

    try:
        return tomllib.loads(_bytes(path).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error})", _WITHOUT) from error


def _table(value: dict[str, Any], path: Path) -> dict[str, Any] | None:
    tool = value.get("tool")
    table = tool.get("normcheck") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{path}: tool.normcheck is not a table", "write [tool.normcheck]")
    return table


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: the configuration cannot be read ({error.strerror or error})", _WITHOUT
        ) from error


def shown(path: Path) -> str:
    """A configuration file in a message: relative to here where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
