"""Arrays and pictures from the command line as a network's inputs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import ReadError, RunError
from niudao.ir import card, pixels


def load_array(path: Path) -> np.ndarray[Any, Any]:
    """An .npy file, never unpickled."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except FileNotFoundError as e:
        raise ReadError(f"{path.name} does not exist.", where=path) from e
    except (OSError, ValueError, EOFError) as e:
        raise ReadError(
            f"{path.name} is no array that can be read without running code.", where=path, expected="an .npy file of numbers"
        ) from e


def load_feeds(model: ir.Model, paths: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Feeds in our layout from an .npz (by name), .npy files (in input order, in the source's axes) or pictures (stacked).

    Raises:
        ReadError, RunError: A file is damaged, or does not fit the network's inputs.
    """
    inputs = list(model.graph.inputs)
    files = [Path(p) for p in paths]
    if files[0].suffix == ".npz":
        try:
            with np.load(files[0], allow_pickle=False) as data:
                given = {name: np.asarray(data[name]) for name in data.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
            raise ReadError(f"{files[0].name} is no archive of arrays.", where=files[0]) from e
        if len(given) == len(inputs) == 1:
            given = {inputs[0].name or "": next(iter(given.values()))}
    elif files[0].suffix == ".npy":
        if len(files) != len(inputs):
            raise RunError(
                f"the network has {len(inputs)} inputs.", expected=", ".join(v.name or "" for v in inputs), got=f"{len(files)} arrays"
            )
        given = {v.name or "": load_array(f) for v, f in zip(inputs, files, strict=True)}
    else:
        if len(inputs) != 1:
            raise RunError(f"the network has {len(inputs)} inputs; a picture feeds one.", next="give an .npz with one array per input")
        cards = card.get_cards(model)
        one = inputs[0]
        stack = [pixels.to_input(f, one, cards.get(one.name or "", card.InputCard())) for f in files]
        return {one.name or "": np.concatenate(stack)}
    return _ours(model, given)


def _ours(model: ir.Model, given: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """From the source's axes to ours, where the array fits the source's axes."""
    result = {}
    for value in model.graph.inputs:
        name = value.name or ""
        if name not in given:
            raise RunError(
                f"input {name!r} is missing.", expected=", ".join(v.name or "" for v in model.graph.inputs), got=", ".join(given)
            )
        array, perm = given[name], card.get_layout(value)
        result[name] = array.transpose(perm) if perm is not None and array.ndim == len(perm) else array
    return result
