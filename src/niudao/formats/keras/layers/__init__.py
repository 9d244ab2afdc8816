"""The table of Keras layers: one function a layer, one file a family.

A layer's function takes the call's context and its input tensors and returns its outputs. A user's own layer is such a function too:

    from niudao.formats.keras.layers import Call, reads
    from niudao.formats.keras.tensor import Tensor

    @reads("Swish")
    def swish(call: Call, x: Tensor) -> Tensor:
        call.known()
        return x.like(call.b.op("Mul", x.value, call.b.op("Sigmoid", x.value)))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from niudao.formats.keras.layers.call import Call as Call
from niudao.registry import Registry

LayerReader = Callable[..., Any]
"""`(call, *tensors) -> Tensor | tuple[Tensor, ...]`"""

LAYERS: Registry[LayerReader] = Registry("Keras layer", entry_points="niudao.keras.layers")


def reads(*class_names: str) -> Callable[[LayerReader], LayerReader]:
    """Decorator: this function builds the layers of these classes."""
    return LAYERS.register(*class_names)


def load_all() -> None:
    """Import every family, so that the table is full."""
    from importlib import import_module
    from pkgutil import iter_modules

    for module in iter_modules(__path__):
        if module.name != "call":
            import_module(f"{__name__}.{module.name}")
