"""Finding the Python that a framework needs: one that was named, on PATH, pyenv's, uv's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from niudao.errors import UsageError

_ASK = "import sys, venv, ensurepip; print('%d.%d.%d' % sys.version_info[:3])"


@dataclass(frozen=True)
class Interpreter:
    """A Python that can make environments, and its full version."""

    path: Path
    version: str


def find_python(wanted: str, given: str | os.PathLike[str] | None = None) -> Interpreter:
    """A Python of the version wanted.

    Args:
        wanted: "3.7".
        given: An interpreter that the user names; then no other is looked for.

    Raises:
        UsageError: The one that was named does not fit, or none was found.
    """
    if given is not None:
        found = _ask(Path(shutil.which(str(given)) or given))
        if found is None:
            raise UsageError(f"{given} is no Python that can make environments (with venv and ensurepip).", expected=f"Python {wanted}")
        if not _fits(found, wanted):
            raise UsageError(f"{given} is another Python.", expected=wanted, got=found.version)
        return found
    for candidate in _candidates(wanted):
        found = _ask(candidate)  # pyenv's shims lie on PATH for versions that are not switched on, and then fail
        if found is not None and _fits(found, wanted):
            return found
    raise UsageError(
        f"Python {wanted} is needed and was not found; looked for python{wanted} on PATH, in pyenv's versions ({_pyenv()}) and with uv.",
        next=f"pyenv install {wanted}, or uv python install {wanted}, or --python PATH",
    )


def _fits(found: Interpreter, wanted: str) -> bool:
    return found.version.rpartition(".")[0] == wanted


def _candidates(wanted: str) -> Iterator[Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder) / (f"python{wanted}.exe" if os.name == "nt" else f"python{wanted}")
        if folder and os.access(path, os.X_OK):
            yield path
    patches = [p for p in _pyenv().glob(f"{wanted}.*") if p.name.rpartition(".")[2].isdigit()]
    for version in sorted(patches, key=lambda p: -int(p.name.rpartition(".")[2])):
        yield version / "bin" / "python"
    uv = shutil.which("uv")
    said = _output([uv, "python", "find", "--no-python-downloads", wanted]) if uv else None
    if said:
        yield Path(said)


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def _ask(path: Path) -> Interpreter | None:
    said = _output([str(path), "-I", "-c", _ASK])
    return Interpreter(path.absolute(), said) if said and said.count(".") == 2 else None


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
