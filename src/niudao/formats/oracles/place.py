"""Where oracles live, and which of them are ready. Nothing here starts a process."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niudao.formats.oracles.table import ORACLES, Recipe

READY = "oracle.json"
"""Written last, so that it is there only if everything else is."""
PARTIAL = ".niudao-oracle"
"""Written first: a folder that holds it is ours to delete."""


@dataclass(frozen=True)
class Oracle:
    """A framework that can run files.

    Attributes:
        name: Its name in the table.
        title: What people call the framework.
        version: What it says of itself ("keras 2.2.4 on tensorflow 1.15.5").
        python: The interpreter.
        folder: Its environment; None where it is the interpreter that runs us.
        environment: Variables that it wants, beside the few that every oracle gets.
        paths: Entries of `sys.path` that it needs besides its own.
    """

    name: str
    title: str
    version: str
    python: Path
    folder: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ()


def root() -> Path:
    """The folder of all oracles: $NIUDAO_ORACLES, else niudao/oracles in $XDG_DATA_HOME, else in ~/.local/share."""
    chosen = os.environ.get("NIUDAO_ORACLES")
    if chosen:
        return Path(chosen).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    return base / "niudao" / "oracles"


def folder_of(name: str) -> Path:
    """Where an oracle is or would be."""
    return root() / name


def interpreter(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def marker(folder: Path) -> dict[str, Any] | None:
    """What the set-up noted when it was done; None where it never was, or the note is not one of ours."""
    try:
        with open(folder / READY, encoding="utf-8") as file:
            noted = json.loads(file.read(1 << 20))
    except (OSError, ValueError, RecursionError):
        return None
    return noted if isinstance(noted, dict) and isinstance(noted.get("pins"), list) else None


def find(name: str) -> Oracle | None:
    """The oracle of that name if it is ready: set up to its end, with the pins of today.

    Raises:
        UnknownName: No oracle has this name.
    """
    recipe = ORACLES[name]
    folder = folder_of(name)
    noted = marker(folder)
    if noted is None or not is_current(noted, recipe) or not interpreter(folder).exists():
        return None
    return Oracle(name, recipe.title, str(noted.get("version", recipe.title)), interpreter(folder), folder)


def is_current(noted: dict[str, Any], recipe: Recipe) -> bool:
    """Whether an environment was made from the pins that the table has now."""
    return bool(list(recipe.pins) == noted["pins"])
