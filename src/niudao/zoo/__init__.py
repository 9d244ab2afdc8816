"""Published architectures as plain torch modules, with exact counts, named variants and the means to tell whose a state dict is.

table.py        every variant's facts; imports no torch
signatures.py   which variants fit a set of names and shapes; imports no torch to answer
weights.py      seeded weights
convolution.py  the block that the Inception networks share
inception_v1.py, inception_v3.py, inception_v4.py, resnet.py, resnet_v2.py, resnet_cifar.py, vgg.py, mobilenet_v1.py, xception.py,
squeezenet.py   one family a file
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from niudao.zoo.table import ARCHITECTURES as ARCHITECTURES
from niudao.zoo.table import Architecture as Architecture

if TYPE_CHECKING:
    from niudao.zoo.signatures import Fit as Fit
    from niudao.zoo.signatures import fitting as fitting
    from niudao.zoo.signatures import mismatch as mismatch

__all__ = ["ARCHITECTURES", "Architecture", "Fit", "architecture", "build", "classes_in", "fitting", "mismatch", "names", "plain"]


def __getattr__(name: str) -> Any:  # `python -m niudao.zoo.signatures` would otherwise find itself imported
    if name in ("Fit", "fitting", "mismatch"):
        from niudao.zoo import signatures

        return getattr(signatures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def plain(name: str) -> str:
    """A name as the registry has it: `-`, `_` and case are alike.

    Example:
        >>> plain("ResNet50-v1.5")
        'resnet50_v1.5'
    """
    return name.strip().lower().replace("-", "_")


def names() -> list[str]:
    """Every architecture's name, sorted."""
    return list(ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """The facts of one architecture.

    Args:
        name: Its name; `-`, `_` and case are alike.

    Raises:
        UnknownName: Nobody registered it; close names are suggested.
    """
    return ARCHITECTURES[plain(name)]


def build(name: str, seed: int = 0, *, classes: int | None = None) -> Any:
    """An architecture with seeded weights.

    Args:
        name: Its name; `-`, `_` and case are alike.
        seed: Of the weights: the same seed gives the same network.
        classes: Number of classes; the published network's by default.

    Returns:
        The `torch.nn.Module` in evaluation mode, in float32 on the CPU. It takes (N, channels, height, width) and gives logits
        (N, classes). Nothing was trained; statistics of BatchNormalization are measured on noise, so that no layer is an identity.

    Raises:
        UnknownName: Nobody registered this name.
        MissingExtra: torch is not installed.
    """
    from importlib.util import find_spec

    from niudao.errors import MissingExtra

    entry = architecture(name)
    if find_spec("torch") is None:
        raise MissingExtra("building a network", "torch", "torch")
    from niudao.zoo.weights import initialise

    return initialise(entry.build(classes=classes or entry.classes), entry.head, entry.input, seed)


def classes_in(name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many classes a state dict was made for.

    Args:
        name: The architecture that it belongs to.
        shapes: Name -> shape of its tensors.

    Returns:
        The first dimension of the last layer's weights; the published number where they are missing.
    """
    entry = architecture(name)
    shape = shapes.get(f"{entry.head}.weight")
    return shape[0] if shape else entry.classes
