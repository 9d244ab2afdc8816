"""Make an oracle, whole or not at all, and remove one.

An environment holds absolute paths, so it is made where it will live. `place.PARTIAL` is written first and `place.READY` last: what
lacks the second counts as absent, and what has neither is not ours and is never touched. An older environment waits aside until the
new one works.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from niudao.errors import NiudaoError, RunError, UsageError, WriteError
from niudao.formats.oracles import place
from niudao.formats.oracles.check import check
from niudao.formats.oracles.interpreters import Interpreter, find_python
from niudao.formats.oracles.place import Oracle, find, folder_of, interpreter
from niudao.formats.oracles.process import WORKERS, kill_group
from niudao.formats.oracles.reports import OracleReport, row
from niudao.formats.oracles.table import ORACLES, Recipe

Say = Callable[[str], None]

_NOT_OURS = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT", "VIRTUAL_ENV")
_PIP = ("install", "--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--prefer-binary", "--progress-bar", "off")


def setup(name: str, *, python: str | os.PathLike[str] | None = None, force: bool = False, say: Say = lambda stage: None) -> OracleReport:
    """Make an oracle, unless it is ready; then it is only checked.

    Args:
        name: Its name in the table.
        python: The interpreter to make it with; found if left out.
        force: Make it anew although it is ready.
        say: Called with each stage, and with pip's lines.

    Returns:
        What is there now; `ok` is False where a ready one gave wrong numbers.

    Raises:
        UsageError: No fitting Python, or the folder's place is taken by something that we did not make.
        WriteError: It could not be made; nothing is left of the attempt, and an older one is as it was.
    """
    recipe = ORACLES[name]
    with _locked(name):
        _tidy(name)
        ready = find(name)
        if ready is not None and not force:
            say(f"checking {recipe.title}")
            fault = ""
            try:
                check(ready, recipe)
            except RunError as e:
                fault = e.message
            return OracleReport(ok=not fault, action="ready", oracle=row(recipe, fault=fault), packages=_packages(name))
        chosen = find_python(recipe.python, python)
        _room(recipe)
        say(f"{recipe.title} takes about {recipe.megabytes} MB in {folder_of(name)}")
        with _aside(name):
            _make(recipe, chosen, say)
        return OracleReport(action="set up", oracle=row(recipe), packages=_packages(name))


def remove(name: str) -> OracleReport:
    """Delete an oracle, or what an interrupted set-up left.

    Raises:
        UsageError: There is none, or the folder is not one that we made.
    """
    recipe = ORACLES[name]
    folder = folder_of(name)
    if not folder.exists() and not _old(folder).exists():
        raise UsageError(f"the oracle {name} is not set up.", where=folder)
    with _locked(name):
        _tidy(name)
        if folder.exists():
            _discard(folder)
    return OracleReport(action="removed", oracle=row(recipe), packages=())


def _make(recipe: Recipe, chosen: Interpreter, say: Say) -> None:
    folder = folder_of(recipe.name)
    try:
        folder.mkdir(parents=True)
        (folder / place.PARTIAL).touch()
    except OSError as e:
        raise WriteError(f"{folder} cannot be made: {e.strerror}.", where=folder, next="another place in NIUDAO_ORACLES") from e
    try:
        say(f"making an environment of Python {chosen.version}")
        _call([str(chosen.path), "-I", "-m", "venv", str(folder)], folder.name, f"Python {chosen.version} cannot make an environment", say)
        python = interpreter(folder)
        tied = [str(python), "-I", str(WORKERS / "tie.py"), "pip"]
        say(f"installing {', '.join(recipe.pins)}")
        _call([*tied, *_PIP, *recipe.pins], folder.name, f"pip could not install {recipe.title}", say)
        listed = _call([*tied, "list", "--format=freeze", "--disable-pip-version-check"], folder.name, "pip cannot list", lambda line: None)
        say(f"checking {recipe.title}")
        try:
            version = check(Oracle(recipe.name, recipe.title, "", python, folder), recipe)
        except RunError as e:
            raise WriteError(f"{recipe.title} was installed and does not work: {e.message}", where=folder, got=e.got) from e
        noted = {
            "name": recipe.name,
            "pins": list(recipe.pins),
            "python": chosen.version,
            "version": version,
            "packages": [line for line in listed if re.fullmatch(r"\S+==\S+", line)],
            "bytes": size(folder),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        draft = folder / f"{place.READY}.draft"
        draft.write_text(json.dumps(noted, indent=1), encoding="utf-8")
        draft.rename(folder / place.READY)
    except BaseException:
        _discard(folder)
        raise


def _call(command: list[str], name: str, fault: str, say: Say) -> list[str]:
    """Run a step of the set-up; its lines. pip keeps our lock open, so that nobody starts anew while one is still at work."""
    env = {k: v for k, v in os.environ.items() if k not in _NOT_OURS} | {"PYTHONNOUSERSITE": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
    last: deque[str] = deque(maxlen=400)
    try:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as e:
        raise WriteError(f"{fault}: {e.strerror}.") from e
    assert process.stdout is not None  # it was asked for above
    try:
        for line in process.stdout:
            text = line.decode("utf-8", "replace").strip()
            if text:
                last.append(text[:500])
                say(text[:200])
        code = process.wait()
    finally:
        kill_group(process)
        process.stdout.close()
    if code:
        offline = any("Retrying (" in line or "NewConnectionError" in line or "getaddrinfo" in line for line in last)
        raise WriteError(
            f"{fault}" + (": the package index cannot be reached." if offline else "."),
            got=_reason(last) or f"exit code {code}",
            next=f"niudao oracle setup {name}, with a network" if offline else None,
        )
    return list(last)


def _reason(lines: deque[str]) -> str:
    """pip's last word of an error, else its last line."""
    words = [line for line in lines if not line.startswith(("WARNING", "[notice]", "DEPRECATION"))]
    errors = [line for line in words if line.lower().startswith("error")]
    return (errors or words or [""])[-1]


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Only one process at a time makes or removes an oracle; the system frees the lock of one that dies."""
    try:
        place.root().mkdir(parents=True, exist_ok=True)
        with open(place.root() / f".{name}.lock", "w", encoding="utf-8") as file:
            if not _lock(file):
                raise UsageError(f"the oracle {name} is being set up by another process.", where=folder_of(name))
            yield
    except OSError as e:
        if isinstance(e, NiudaoError):
            raise
        raise WriteError(f"{place.root()} cannot be used: {e.strerror or e}.", next="another place in NIUDAO_ORACLES") from e


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _aside(name: str) -> Iterator[None]:
    """The environment that is there waits under another name, and comes back if the new one fails."""
    folder, old = folder_of(name), _old(folder_of(name))
    if folder.exists():
        folder.rename(old)
    try:
        yield
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    if old.exists():
        _discard(old)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _tidy(name: str) -> None:
    """Put right what a set-up that was killed left behind.

    Raises:
        UsageError: The folder is not one that we made.
    """
    folder = folder_of(name)
    shutil.rmtree(_discarded(folder), ignore_errors=True)
    ready = place.marker(folder) is not None
    if folder.exists() and not ready:
        _discard(folder)
    old = _old(folder)
    if old.exists():
        if ready:
            _discard(old)
        else:
            old.rename(folder)


def _discarded(folder: Path) -> Path:
    return folder.with_name(f".{folder.name.strip('.')}.discarded")


def _discard(folder: Path) -> None:
    """Rename, then delete: a deletion that is interrupted leaves a name that the next start knows."""
    ours = (folder / place.PARTIAL).exists() or place.marker(folder) is not None
    if folder.is_symlink() or not folder.is_dir() or not (ours or not any(folder.iterdir())):
        raise UsageError(f"{folder} was not made by niudao and is left alone.", where=folder, next="another place in NIUDAO_ORACLES")
    gone = _discarded(folder)
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _room(recipe: Recipe) -> None:
    free = shutil.disk_usage(place.root()).free
    if free < recipe.megabytes << 20:
        raise WriteError(
            f"the disk is too full for {recipe.title}.",
            where=place.root(),
            expected=f"{recipe.megabytes} MB",
            got=f"{free >> 20} MB",
            next="another place in NIUDAO_ORACLES",
        )


def _packages(name: str) -> tuple[str, ...]:
    noted = place.marker(folder_of(name)) or {}
    return tuple(str(p) for p in noted.get("packages", ()))


def size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    total = 0
    for place_, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place_) / name).lstat().st_size
    return total
