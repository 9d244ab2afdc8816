"""The demo's images and networks, as arrays and paths.

Reference: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi 10.24432/C50P49, CC BY 4.0; its test part as scikit-learn's `load_digits` gives it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from niudao.errors import ReadError, UnknownName
from niudao.formats.files import open_model

FOLDER = Path(__file__).resolve().parent

NETWORKS = ("lenet.h5", "resnet.keras")
"""Both take `image` float32 (N, 28, 28, 1) in [0, 1] and give probabilities (N, 10)."""

SIDE = 28


def path(name: str) -> Path:
    """Where a file of the demo lies.

    Args:
        name: Its name, "lenet.h5" or "digit-3.png".

    Raises:
        UnknownName: The demo has no such file.
    """
    known = [p.name for p in FOLDER.iterdir() if p.suffix not in (".py", ".pyc") and p.is_file()]
    if name not in known:
        raise UnknownName("demo file", name, known)
    return FOLDER / name


def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The 100 test images, ten of each digit in random order; no network was trained or tuned on them.

    Returns:
        Images uint8 (100, 8, 8), black 0 to white 255 on a black ground, in 17 levels; labels uint8 (100,), 0 to 9.

    Raises:
        ReadError: The installation is damaged.
    """
    images, labels = _load("digits.npz", lambda f: _members(f, "images", "labels"))
    return images, labels


def inputs(images: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.float32]:
    """Network inputs, made as the input card says: stretched to 28x28 by Pillow's bilinear filter, times 1/255.

    Args:
        images: Pixels uint8 (N, height, width); the 100 test images if left out.

    Returns:
        float32 (N, 28, 28, 1) in [0, 1].
    """
    from PIL import Image

    if images is None:
        images, _ = digits()
    large = np.zeros((len(images), SIDE, SIDE, 1), np.float32)
    for i, image in enumerate(images):
        large[i, :, :, 0] = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return large / np.float32(255)


def expected(network: str) -> npt.NDArray[np.float32]:
    """The probabilities that the network's own framework computed from `inputs()`, float32 (100, 10).

    Args:
        network: One of `NETWORKS`.

    Raises:
        UnknownName: The demo has no such network.
        ReadError: The installation is damaged.
    """
    if network not in NETWORKS:
        raise UnknownName("demo network", network, NETWORKS)
    values: npt.NDArray[np.float32] = _load(f"{Path(network).stem}.expected.npy", lambda f: np.load(f, allow_pickle=False))
    return values


def accuracy() -> dict[str, Any]:
    """What `accuracy.json` says of data and networks.

    Raises:
        ReadError: The installation is damaged.
    """
    facts: dict[str, Any] = _load("accuracy.json", json.load)
    return facts


def _members(f: IO[bytes], *names: str) -> list[Any]:
    with np.load(f, allow_pickle=False) as archive:
        return [archive[name] for name in names]


def _load(name: str, load: Callable[[IO[bytes]], Any]) -> Any:
    import zipfile

    with open_model(FOLDER / name) as f:
        try:
            return load(f)
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as e:
            raise ReadError(f"the demo's {name} is damaged.", where=FOLDER / name, next="pip install --force-reinstall niudao") from e
