"""Run a Keras file in Keras itself: the one installed here where it takes the file as it was meant, else an oracle's."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from niudao.errors import MissingExtra, RunError
from niudao.formats import oracles
from niudao.formats.oracles import Oracle

_BACKENDS = ("tensorflow", "torch", "jax")
_MEMORY = 16 << 30
"""Address space of a Keras run here, in bytes: PyTorch's libraries for graphics cards are mapped whole, though never used."""


def available(path: str | os.PathLike[str] | None = None) -> str | None:
    """The Keras that would run, as "keras <version>", with the oracle's name where it is one; or None.

    Args:
        path: A file that it would run; None is also the answer where every Keras at hand would misread the file's generation
            (Keras 3 gives `hard_sigmoid`, bilinear upsampling and the gates of a Keras 2 file another meaning, without a word).
    """
    chosen = _choose(None if path is None else Path(path))
    if chosen is None:
        return None
    return chosen.version if chosen.folder is None else f"{chosen.version} (oracle {chosen.name})"


def run(path: str | os.PathLike[str], feeds: Mapping[str, Any], *, seconds: float = 300) -> dict[str, np.ndarray[Any, Any]]:
    """Run a file in real Keras.

    Args:
        path: A `.keras` or `.h5` file, or Python source that our own writer made (it is executed).
        feeds: Input name -> array in Keras's own layout.
        seconds: Wall-clock limit.

    Returns:
        Output name (that of its layer; repeated ones `name_1`, ...) -> array, in the model's order.

    Raises:
        MissingExtra: No Keras is here.
        OverBudget: It takes too long, or more memory than it may have.
        RunError: Keras refuses the file or the arrays.
    """
    chosen = _choose(Path(path))
    if chosen is None:
        chosen = _installed()
        if chosen is None:
            raise MissingExtra("running Keras itself", "keras with a backend", "keras")
        raise RunError(f"{chosen.version} would misread this file.", where=Path(path), next="niudao oracle setup tf2")
    limits = {"memory": _MEMORY} if chosen.folder is None else {}
    return oracles.run(chosen, "keras2", path, feeds, seconds=seconds, **limits)


def _choose(path: Path | None) -> Oracle | None:
    """The Keras at hand that reads a file as it was meant; without a file, the one installed here."""
    here = _installed()
    if path is None:
        return here
    meaning = _meaning(path)
    if here is not None and here.version.removeprefix("keras ").split(".")[0] in meaning.generations:
        return here
    name = meaning.oracle()
    return oracles.find(name) if name else None


def _installed() -> Oracle | None:
    from importlib.metadata import PackageNotFoundError, version

    backend = _backend()
    if importlib.util.find_spec("keras") is None or backend is None:
        return None
    try:
        installed = version("keras")
    except PackageNotFoundError:
        return None
    here = tuple(p for p in sys.path if p)
    return Oracle("keras", "Keras", f"keras {installed}", Path(sys.executable), environment=(("KERAS_BACKEND", backend),), paths=here)


@dataclass(frozen=True)
class _Meaning:
    """How a file wants to be taken.

    Attributes:
        generations: "2", "3": those that give it the same meaning. What our writer noted, else the one that wrote it.
        version: The Keras that it says wrote it.
    """

    generations: tuple[str, ...] = ()
    version: str = ""

    def oracle(self) -> str | None:
        """Which oracle takes it as it was meant.

        Stand-alone Keras up to 2.3 has TensorFlow 1's bilinear upsampling; tf.keras, which says "2.2.4-tf" of itself at first,
        has half-pixel centres. Neither may judge the other's files.
        """
        if "2" not in self.generations:
            return None
        numbers = self.version.removesuffix("-tf").split(".")
        minor = int(numbers[1]) if len(numbers) > 1 and numbers[1].isdigit() else 0
        return "keras2" if numbers[0] == "2" and minor <= 3 and not self.version.endswith("-tf") else "tf2"


def _meaning(path: Path) -> _Meaning:
    if path.suffix == ".py":
        return _Meaning(("3",))
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                stated = str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
            return _Meaning((stated.split(".")[0],), stated)
        with h5py.File(path, "r") as file:
            noted, found = file.attrs.get("niudao"), file.attrs.get("keras_version", "")
    except (OSError, KeyError, ValueError, AttributeError, RecursionError, zipfile.BadZipFile, NotImplementedError):
        return _Meaning()
    stated = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    if noted is None:
        return _Meaning((stated.split(".")[0],), stated)
    try:
        return _Meaning(tuple(str(g) for g in json.loads(noted).get("generations", ())), stated)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return _Meaning()


def _backend() -> str | None:
    asked = os.environ.get("KERAS_BACKEND")
    found = [b for b in _BACKENDS if importlib.util.find_spec(b) is not None]
    return asked if asked in found else found[0] if found else None
