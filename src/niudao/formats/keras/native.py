"""Run a Keras file in Keras itself, in a process of its own with a time limit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from niudao.errors import MissingExtra, RunError

_BACKENDS = ("tensorflow", "torch", "jax")

_CHILD = """
import sys
import numpy as np
import keras
path, feeds, results = sys.argv[1:]
if path.endswith(".py"):
    import runpy
    model = runpy.run_path(path)["load"]()
else:
    model = keras.models.load_model(path, compile=False)
arrays = dict(np.load(feeds))
names = [t.name.split(":")[0] for t in model.inputs]
values = [arrays[n] for n in names]
out = model.predict(values if len(values) > 1 else values[0], verbose=0)
out = list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, (list, tuple)) else [out]
made = [getattr(t, "_keras_history", None) for t in model.outputs]
found = {}
for k, (h, o) in enumerate(zip(made, out)):
    name = wish = h[0].name if h is not None else f"output_{k}"
    n = 0
    while name in found:
        n += 1
        name = f"{wish}_{n}"
    found[name] = np.asarray(o)
np.savez(results, **found)
"""


def available(path: str | os.PathLike[str] | None = None) -> str | None:
    """The Keras that would run, as "keras <version>", or None.

    Args:
        path: A file that it would run; None is also the answer where the installed Keras would misread the file's generation
            (Keras 3 gives `hard_sigmoid`, bilinear upsampling and the gates of a Keras 2 file another meaning, without a word).
    """
    from importlib.metadata import PackageNotFoundError, version

    if importlib.util.find_spec("keras") is None or _backend() is None:
        return None
    try:
        installed = version("keras")
    except PackageNotFoundError:
        return None
    if path is not None and installed.split(".")[0] not in _generations(Path(path)):
        return None
    return f"keras {installed}"


def _generations(path: Path) -> tuple[str, ...]:
    """The generations that give this file the same meaning: what our writer noted, else the one that wrote it."""
    if path.suffix == ".py":
        return ("3",)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                stated = json.loads(archive.read("metadata.json")).get("keras_version", "")
            return (str(stated).split(".")[0],)
        with h5py.File(path, "r") as file:
            noted, stated = file.attrs.get("niudao"), file.attrs.get("keras_version", "")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ()
    if noted is not None:
        try:
            return tuple(json.loads(noted).get("generations", ()))
        except (ValueError, AttributeError, TypeError):
            return ()
    return ((stated.decode() if isinstance(stated, bytes) else str(stated)).split(".")[0],)


def _backend() -> str | None:
    asked = os.environ.get("KERAS_BACKEND")
    found = [b for b in _BACKENDS if importlib.util.find_spec(b) is not None]
    return asked if asked in found else found[0] if found else None


def run(path: str | os.PathLike[str], feeds: Mapping[str, Any], *, seconds: float = 300) -> dict[str, np.ndarray[Any, Any]]:
    """Run a file in real Keras.

    Args:
        path: A `.keras` or `.h5` file, or Python source that our own writer made (it is executed).
        feeds: Input name -> array in Keras's own layout.
        seconds: Wall-clock limit.

    Returns:
        Output name (that of its layer; repeated ones `name_1`, ...) -> array, in the model's order.

    Raises:
        MissingExtra: Keras is not installed.
        RunError: Keras refuses the file or the arrays, or takes too long.
    """
    if available() is None:
        raise MissingExtra("running Keras itself", "keras with a backend", "keras")
    backend = _backend() or ""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    with tempfile.TemporaryDirectory(prefix="niudao-") as folder:
        given, results = Path(folder) / "feeds.npz", Path(folder) / "results.npz"
        np.savez(given, **{k: np.asarray(v) for k, v in feeds.items()})  # type: ignore[arg-type]
        command = [sys.executable, "-c", _CHILD, str(Path(path).resolve()), str(given), str(results)]
        try:
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as e:
            raise RunError(f"Keras took more than {seconds:g} s.", where=Path(path), next="a higher time limit") from e
        if done.returncode != 0 or not results.exists():
            lines = [x for x in done.stderr.strip().splitlines() if x.strip()]
            raise RunError(f"Keras refuses the file: {(lines or ['no word'])[-1][:300]}", where=Path(path))
        with np.load(results) as made:
            return {k: made[k] for k in made.files}
