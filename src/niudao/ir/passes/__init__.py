"""What can be done to any model, one pass per file. A pass works in place and says what it changed.

shapes and values   infer_shapes  fold_constants
clearing up         remove_dead  remove_identity
batch normalisation fold_batchnorm (and fold_affine, for plain arithmetic)  raise_batchnorm
axes                transposes  layout
idioms              raise_idioms  raise_atrous  raise_shapes  raising (all of them in order)
numbers             convert_float16
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import onnx_ir as ir

from niudao.registry import Registry


@dataclass(frozen=True)
class Result:
    """What a pass did.

    Attributes:
        modified: Whether the model is another one now.
        changes: One sentence per change or kind of change, in order.
    """

    modified: bool
    changes: tuple[str, ...] = ()

    def __add__(self, other: Result) -> Result:
        return Result(self.modified or other.modified, self.changes + other.changes)


Pass = Callable[[ir.Model], Result]
PASSES: Registry[Pass] = Registry("pass", entry_points="niudao.passes")

NAMES = (
    "infer_shapes",
    "fold_constants",
    "remove_dead",
    "remove_identity",
    "fold_batchnorm",
    "raise_batchnorm",
    "transposes",
    "layout",
    "raise_idioms",
    "raise_atrous",
    "raise_shapes",
    "raising",
    "convert_float16",
)


SIMPLIFY = (
    "infer_shapes",
    "fold_constants",
    "remove_identity",
    "transposes",
    "raise_idioms",
    "fold_affine",
    "raise_atrous",
    "infer_shapes",
    "remove_identity",
    "transposes",
    "remove_dead",
    "infer_shapes",
)
"""What makes an exporter's graph read as a person would have written it. BatchNormalization stays a node."""


def load() -> None:
    """Import every pass of ours, which registers it."""
    for name in NAMES:
        import_module(f"niudao.ir.passes.{name}")


def run(model: ir.Model, names: Sequence[str]) -> Result:
    """Run passes by name, one after the other, in place.

    Raises:
        UnknownName: No pass has this name.
    """
    load()
    passes = [PASSES[name] for name in names]
    result = Result(False)
    for step in passes:
        result = result + step(model)
    return result


def simplify(model: ir.Model) -> Result:
    """Run the passes of `SIMPLIFY`, in place."""
    return run(model, SIMPLIFY)
