"""What a walk through TorchScript meets: tensors without content, numbers that depend on free sizes, modules.

Every tensor is carried twice, at two choices of the free sizes: what comes out equal both times does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Refuse(Exception):
    """The network cannot be read, whatever shapes its inputs have.

    Args:
        reason: In a few words.
        op: The operator at fault.
    """

    def __init__(self, reason: str, op: str = "") -> None:
        super().__init__(reason)
        self.reason, self.op = reason, op
        self.layer = ""


class Unfit(Refuse):
    """The network cannot be read with these shapes of its inputs; others may do."""


@dataclass(eq=False)
class Tensor:
    """A tensor; whoever holds it sees what is written into it.

    Attributes:
        name: Of the value that it is now.
        probes: Tensors of the meta device, one a choice of the free sizes.
        real: Its content, where it is small and depends on no input.
        base: The tensor whose memory it is a view of.
        remake: How to make the view anew after something was written into that memory.
        spread: How to write the view's new content into `base`: gives the new name of `base`.
        epoch: Of the memory, when this name was right.
        weight: Its name in the state dict, if it is a weight.
    """

    name: str
    probes: tuple[Any, ...]
    real: Any = None
    base: Tensor | None = None
    remake: Callable[[], str] | None = None
    spread: Callable[[str], str] | None = None
    epoch: int = 0
    weight: str = ""

    @property
    def root(self) -> Tensor:
        """The tensor that all views of this memory come from."""
        return self if self.base is None else self.base.root


@dataclass(frozen=True)
class Free:
    """A number that depends on free sizes.

    Attributes:
        values: One a choice of them.
        name: Of the value.
    """

    values: tuple[Any, ...]
    name: str


@dataclass(frozen=True)
class Name:
    """A value that is only passed on."""

    name: str


@dataclass(frozen=True)
class Scalar:
    """A tensor without axes that is a number made of sizes and constants.

    Attributes:
        number: A number or `Free`.
        dtype: torch's type.
    """

    number: Any
    dtype: Any


@dataclass(eq=False)
class Module:
    """A module of the archive and its path ("layer1.0")."""

    held: Any
    path: str
    kind: str
    written: dict[str, Any] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Function:
    """A function of the archive by its whole name."""

    name: str


def at(value: Any, i: int) -> Any:
    """A number, or numbers in lists, at one choice of the free sizes."""
    if isinstance(value, Free):
        return value.values[i]
    if isinstance(value, (list, tuple)):
        return type(value)(at(v, i) for v in value)
    return value


def is_free(value: Any) -> bool:
    """Whether a number depends on free sizes; lists are looked through."""
    return isinstance(value, Free) or (isinstance(value, (list, tuple)) and any(is_free(v) for v in value))
