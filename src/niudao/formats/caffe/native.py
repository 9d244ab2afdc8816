"""Run a Caffe network in real Caffe, in an environment of its own (`niudao oracle setup caffe`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from niudao.errors import RunError
from niudao.formats import oracles
from niudao.formats.caffe.opening import open_net


def available(path: str | os.PathLike[str] | None = None) -> str | None:
    """The Caffe that would run, as "Caffe 1.0.0", or None where its environment is not set up."""
    oracle = oracles.find("caffe")
    return oracle.title if oracle is not None else None


def run(path: str | os.PathLike[str], feeds: Mapping[str, Any], *, seconds: float = 300) -> dict[str, np.ndarray[Any, Any]]:
    """Run a pair of files that we wrote.

    Args:
        path: The prototxt, or the caffemodel; the other one lies beside it.
        feeds: Input name -> array.
        seconds: Wall-clock limit.

    Returns:
        Output name -> array, in the order in which the network makes them.

    Raises:
        RunError: Real Caffe is not set up.
        RunError: Caffe refuses the files or the arrays, or takes too long.
    """
    oracle = oracles.find("caffe")
    if oracle is None:
        raise RunError("real Caffe is not set up here.", next="niudao oracle setup caffe")
    path = Path(path)
    opened = open_net(path)
    stem = path.name.removesuffix(".h5").removesuffix(".caffemodel").removesuffix(".prototxt")
    structure = path.with_name(f"{stem}.prototxt")
    weights = str(path.with_name(opened.weights.name).resolve()) if opened.weights is not None else ""
    return oracles.run(oracle, "caffe", structure.resolve(), feeds, seconds=seconds, weights=weights, outputs=opened.net.outputs())
