"""Arguments that several verbs share, and how they are read."""

from __future__ import annotations

import argparse
import os
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from niudao.errors import ReadError, UsageError


def model_argument(parser: argparse.ArgumentParser, name: str = "model", help: str = "the network's file") -> None:
    """A positional model file, completed as a file by the shell."""
    action = parser.add_argument(name, metavar=name.upper(), help=help)
    action.complete = FILE  # type: ignore[attr-defined]


FILE = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f", "fish": "(__fish_complete_path (commandline -ct))"}


def reading_flags(parser: argparse.ArgumentParser) -> None:
    """How to read a model that does not say everything itself."""
    group = parser.add_argument_group("reading")
    group.add_argument("--weights", metavar="FILE", help="second file of a format that has two (found beside the first if left out)")
    group.add_argument("--from", dest="format", metavar="FORMAT", help="the source's format (default: by content)")
    group.add_argument(
        "--shape", action="append", default=[], metavar="NAME=1x3x224x224", help="fix an input's shape, in the source's axes"
    )
    group.add_argument(
        "--arch", metavar="NAME", help="whose weights a PyTorch state dict holds: a name of the zoo, or FILE.py:FACTORY with --trust"
    )
    group.add_argument(
        "--trust",
        action="store_true",
        help="the source comes from known hands: FILE.py of --arch, or the .py beside a .safetensors, is run; its framework may read it",
    )
    group.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="your own layers: a Python file that registers them; it is run"
    )


def reading(options: argparse.Namespace, weights: str | None = None) -> dict[str, Any]:
    """What the flags say of a source, as `read` takes it."""
    return {
        "weights": weights or options.weights,
        "format": options.format,
        "shapes": shapes(options.shape) or None,
        "arch": options.arch,
        "trust": options.trust,
    }


def load_plugins(paths: list[str]) -> None:
    """Run the user's own Python files; they register layers by the same decorators that niudao uses."""
    for path in paths:
        if not Path(path).is_file():
            raise UsageError(f"the plug-in {path} does not exist.")
        name = f"niudao_plugin_{Path(path).stem}"
        loader = SourceFileLoader(name, os.fspath(path))
        spec = spec_from_loader(name, loader)
        if spec is None:
            raise UsageError(f"the plug-in {path} is no Python file.")
        loader.exec_module(module_from_spec(spec))


def shapes(pairs: list[str]) -> dict[str, tuple[int, ...]]:
    """`data=1x3x224x224` as a mapping."""
    result = {}
    for pair in pairs:
        name, _, dims = pair.rpartition("=")
        parts = dims.replace(",", "x").split("x")
        if not name or not all(p.isdigit() for p in parts):
            raise UsageError(f"--shape {pair!r} is no shape.", expected="NAME=1x3x224x224")
        result[name] = tuple(int(p) for p in parts)
    return result


def words(text: str | None) -> list[str]:
    """A comma-separated list."""
    return [w.strip() for w in text.split(",") if w.strip()] if text else []


def expand(paths: list[str], endings: tuple[str, ...]) -> list[Path]:
    """Files, folders (their pictures, sorted, links not followed) and `@list.txt` as files.

    Raises:
        ReadError: A folder or list without any.
    """
    found: list[Path] = []
    for text in paths:
        if text.startswith("@"):
            try:
                lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as e:
                raise ReadError(f"the list {text[1:]} cannot be read.", where=text[1:]) from e
            found += [Path(line) for line in lines if line.strip()]
            continue
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file() and not p.is_symlink())
            if not inside:
                raise ReadError(f"no images found in {path}.", where=path, expected="files ending in " + " ".join(endings))
            found += inside
        else:
            found.append(path)
    return found
